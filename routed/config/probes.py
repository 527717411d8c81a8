"""The options of probes.

See `schema` for the rest of routes.yaml, and `options` for how an option is declared.
"""

from __future__ import annotations

import enum
import re

from ipc.lazy_dataclass import dataclass
from routed.config import scalars
from routed.config.options import ListOf, Scalar
from routed.config.options import option as _option
from routed.model.prefix import Address
from routed.model.probe import HISTORY_MAX, RCODES, ProbeKind, ProbeSettings, RecordType

__all__ = ["OnError", "ProbeConfig", "ProbeInitial"]

DNS_PORT = 53
JITTER_PART = 0.1
"""The default of `jitter`, as a part of `interval`."""


class ProbeInitial(enum.Enum):
    """What counts while the state of a probe is unknown."""

    DOWN = "down"
    UP = "up"


class OnError(enum.Enum):
    """What counts when an attempt cannot be made."""

    FAIL = "fail"
    IGNORE = "ignore"


_DOMAIN_NAME = r"\.|(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?"
_DOMAIN_NAME_MAX = 253


def _read_domain_name(text: str) -> str:
    if len(text) > _DOMAIN_NAME_MAX or not re.fullmatch(_DOMAIN_NAME, text):
        raise ValueError(f"expected a domain name, got {text!r}")
    return text


_domain_name = scalars.Reader(_read_domain_name, {"type": "string", "maxLength": _DOMAIN_NAME_MAX})


def _read_rcode(text: str) -> int:
    if text not in RCODES:
        raise ValueError(f"expected one of {', '.join(RCODES)}, got {text!r}")
    return RCODES.index(text)


_rcode = scalars.Reader(_read_rcode, {"enum": list(RCODES)}, lambda code: RCODES[code])


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """One probe: what it does, how often, and what its state follows from."""

    name: str
    """The key."""
    kind: ProbeKind = _option(
        Scalar(scalars.choice(ProbeKind)),
        "`icmp` (echo), `tcp` (connect to `target` and `port`), `dns` (`query`), `carrier` (of "
        "`interface`), `bfd` (the session `session`), or of the probes in `of`: `all`, `any`, "
        "`at-least` (`least` of them).",
    )
    target: Address | None = _option(
        Scalar(scalars.address),
        "The address that is probed (`icmp`, `tcp`, `dns`); a link-local one needs `interface`.",
        default=None,
    )
    port: int | None = _option(
        Scalar(scalars.whole_number(1, 65_535)),
        "The port (`tcp`; `dns`: 53 when absent).",
        default=None,
    )
    source: Address | None = _option(
        Scalar(scalars.address),
        "The address of this system; the kernel's choice when absent.", default=None,
    )  # fmt: skip
    interface: str | None = _option(
        Scalar(scalars.interface_name),
        "The interface that packets leave and arrive by, whatever the routing table says; for "
        "`carrier`: the interface whose carrier counts.",
        default=None,
    )
    mark: int = _option(
        Scalar(scalars.whole_number(0, 2**32 - 1)),
        "Firewall mark of the packets (SO_MARK), for policy rules; 0: none.",
        default=0, written="0",
    )  # fmt: skip
    session: str | None = _option(
        Scalar(scalars.word), "The session of `bfd.sessions` that counts (`bfd`).", default=None
    )
    members: tuple[str, ...] = _option(
        ListOf(scalars.word), "The probes that a combination follows.",
        key="of", default=(), written="[]",
    )  # fmt: skip
    least: int | None = _option(
        Scalar(scalars.whole_number(1, 64)),
        "How many of `of` must be up (`at-least`).", default=None,
    )  # fmt: skip
    query: str | None = _option(
        Scalar(_domain_name), "The domain name that is queried (`dns`).", default=None
    )
    query_type: RecordType = _option(
        Scalar(scalars.choice(RecordType)), "The type of its records (`dns`).",
        key="type", default=RecordType.A, written="a",
    )  # fmt: skip
    rcode: int = _option(
        Scalar(_rcode),
        "The response code that is expected (`dns`); `noerror` with at least one record of `type`.",
        default=0, written="noerror",
    )  # fmt: skip
    answer: Address | None = _option(
        Scalar(scalars.address), "An address that the answer must have (`dns`, type a or aaaa).",
        default=None,
    )  # fmt: skip
    rtt_max_s: float | None = _option(
        Scalar(scalars.duration(0.0001, 60)),
        "While the mean round-trip time of the last `window` attempts is above this limit, an "
        "attempt fails, and until it is at most 80 % of it.",
        key="rtt_max", default=None,
    )  # fmt: skip
    loss_max: int = _option(
        Scalar(scalars.whole_number(0, 100)),
        "While more than this percentage of the last `window` attempts had no answer, an attempt "
        "fails, and until it is at most 80 % of it; 100: no limit.",
        default=100, written="100",
    )  # fmt: skip
    window: int = _option(
        Scalar(scalars.whole_number(1, HISTORY_MAX)), "Attempts that `rtt_max` and `loss_max` use.",
        default=20, written="20",
    )  # fmt: skip
    interval_s: float = _option(
        Scalar(scalars.duration(0.1, 3600)), "Time between two attempts.",
        key="interval", default=1.0, written="1s",
    )  # fmt: skip
    timeout_s: float | None = _option(
        Scalar(scalars.duration(0.01, 60)),
        "An attempt without an answer within this time failed; at most `interval`. Default: "
        "`interval`, at most 1s.",
        key="timeout", default=None,
    )  # fmt: skip
    jitter_s: float | None = _option(
        Scalar(scalars.duration(0, 3600)),
        "Each interval is shortened by up to this time at random; less than `interval`. Default: "
        "a tenth of `interval`.",
        key="jitter", default=None,
    )  # fmt: skip
    rise: int = _option(
        Scalar(scalars.whole_number(1, 100)), "Successes in a row that take the probe up.",
        default=2, written="2",
    )  # fmt: skip
    fall: int = _option(
        Scalar(scalars.whole_number(1, 100)), "Failures in a row that take the probe down.",
        default=3, written="3",
    )  # fmt: skip
    invert: bool = _option(
        Scalar(scalars.boolean), "Count a success as a failure, and a failure as a success.",
        default=False, written="false",
    )  # fmt: skip
    on_error: OnError = _option(
        Scalar(scalars.choice(OnError)),
        "An attempt that cannot be made (no interface, no route, no permission): `fail` counts it "
        "as a failure, `ignore` does not count it.",
        default=OnError.FAIL, written="fail",
    )  # fmt: skip
    initial: ProbeInitial = _option(
        Scalar(scalars.choice(ProbeInitial)),
        "What counts while the state is unknown: `down` or `up`.",
        default=ProbeInitial.DOWN, written="down",
    )  # fmt: skip

    @property
    def settings(self) -> ProbeSettings:
        """The probe as the liveness process has it."""
        timeout_s, jitter_s = self.timeout_s, self.jitter_s
        return ProbeSettings(
            name=self.name,
            kind=self.kind,
            target=self.target,
            port=self.port or (DNS_PORT if self.kind is ProbeKind.DNS else 0),
            source=self.source,
            interface=self.interface or "",
            mark=self.mark,
            session=self.session or "",
            interval_s=self.interval_s,
            timeout_s=min(self.interval_s, 1.0) if timeout_s is None else timeout_s,
            jitter_s=self.interval_s * JITTER_PART if jitter_s is None else jitter_s,
            rise=self.rise,
            fall=self.fall,
            members=self.members,
            least=self._needed,
            is_inverted=self.invert,
            fails_on_error=self.on_error is OnError.FAIL,
            rtt_max_s=self.rtt_max_s or 0.0,
            loss_max=self.loss_max,
            window=self.window,
            query=self.query or "",
            query_type=self.query_type,
            rcode=self.rcode,
            answer=self.answer,
        )

    @property
    def identity(self) -> tuple[object, ...]:
        """The options that make it another probe when they change."""
        return (
            self.kind, self.target, self.port, self.source, self.interface, self.mark,
            self.session, self.invert, self.query, self.query_type, self.rcode, self.answer,
        )  # fmt: skip

    @property
    def _needed(self) -> int:
        """How many members must be up."""
        if self.kind is ProbeKind.ALL:
            return len(self.members)
        return 1 if self.kind is ProbeKind.ANY else self.least or 0
