"""Next hops and attributes of a route as text, in the words of ip-route(8). Pure."""

from __future__ import annotations

from routectl.render.text import Row, plain_text

__all__ = ["next_hops_text", "prefix_with_table", "route_text"]


def route_text(row: Row) -> str:
    """Format next hops, one per line, and the route's attributes: behind a single next hop, or in a
    line above several."""
    text = next_hops_text(row.get("type"), row.get("next_hops"))
    attributes = row.get("attributes")
    if not isinstance(attributes, dict) or not attributes:
        return text
    words = " ".join(f"{word} {value}" for word, value in attributes.items())
    return f"{words}\n{text}" if "\n" in text else f"{text} {words}"


def prefix_with_table(row: Row) -> str:
    """Format a prefix, and its table unless that is the main one."""
    table = row.get("table", "main")
    prefix = plain_text(row.get("prefix"))
    return prefix if table == "main" else f"{prefix} table {table}"


def next_hops_text(route_type: object, next_hops: object) -> str:
    """Format next hops as `ip route` does, one per line; of other types also the type's name."""
    if route_type not in ("unicast", None):
        hops = next_hops if route_type in ("local", "broadcast") else None
        return f"{route_type} {next_hops_text(None, hops)}" if hops else str(route_type)
    if not isinstance(next_hops, list) or not next_hops:
        return plain_text(None)
    is_weighted = any(isinstance(hop, dict) and hop.get("weight", 1) != 1 for hop in next_hops)
    return "\n".join(_next_hop_text(hop, is_weighted=is_weighted) for hop in next_hops)


def _next_hop_text(hop: object, *, is_weighted: bool) -> str:
    if not isinstance(hop, dict):
        return plain_text(hop)
    words = []
    if hop.get("via") is not None:
        words.append(f"via {hop['via']}")
    if hop.get("dev") is not None:
        words.append(f"dev {hop['dev']}")
    if is_weighted:
        words.append(f"weight {hop.get('weight', 1)}")
    return " ".join(words)
