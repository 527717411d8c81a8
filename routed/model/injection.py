"""Attributes of injected routes, as a client sends them and the journal keeps them."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.model.kernel_attributes import KernelAttributes
from routed.model.route import Gateway, RouteType

__all__ = ["InjectedAttributes"]


@dataclass(frozen=True, slots=True)
class InjectedAttributes:
    """Attributes that several injected routes share."""

    type: RouteType
    gateways: tuple[Gateway, ...]
    metric: int
    tag: int
    kernel_attributes: KernelAttributes | None = None
