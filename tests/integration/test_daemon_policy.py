"""Filters and summaries between real daemons, and their effect on the kernels of their
neighbors.
"""

from __future__ import annotations

import pytest
import yaml

from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


def configure(lab: Lab, router: str, text: str) -> None:
    """Add to a router's configuration."""
    lab.write_config_unless_there(router)
    config = yaml.safe_load(lab.read_config(router))
    added = yaml.safe_load(text)
    config["redistribute"] += added.pop("redistribute", [])
    lab.write_config(router, yaml.safe_dump({**config, **added}))


def prefixes(lab: Lab, router: str) -> set[str]:
    return {
        route.prefix for route in lab.kernel_routes(router) if route.prefix.startswith("10.20.")
    }


def test_a_summary_is_announced_instead_of_the_prefixes_that_it_covers(
    build_lab: LabBuilder,
) -> None:
    lab = build_lab("line3")
    statics = "\n".join(
        f"  - {{prefix: 10.20.{number}.0/24, type: blackhole, tag: {number}}}" for number in (1, 2)
    )
    configure(lab, "A", f"static:\n{statics}\nredistribute: [{{source: static}}]\n")
    configure(
        lab, "R",
        "summaries: [{prefix: 10.20.0.0/16, only: true, interface: eth-B}]\n"
        "filters: {import: [{tag: 2, action: deny}]}\n",
    )  # fmt: skip
    lab.start_daemons()
    wait_until(
        lambda: prefixes(lab, "B") == {"10.20.0.0/16"}, DEADLINE_S, "B has the summary alone"
    )
    wait_until(
        lambda: prefixes(lab, "R") == {"10.20.0.0/16", "10.20.1.0/24"},
        DEADLINE_S,
        "R has the summary's end and what its filter lets in",
    )
    assert prefixes(lab, "A") == {"10.20.0.0/16", "10.20.1.0/24", "10.20.2.0/24"}

    lab.write_config("A", lab.read_config("A").replace("10.20.1.0/24", "10.21.1.0/24"))
    lab.sighup("A")
    wait_until(lambda: prefixes(lab, "B") == set(), DEADLINE_S, "the summary has gone with it")


def test_a_route_that_the_kernel_filter_excludes_is_announced_nevertheless(
    build_lab: LabBuilder,
) -> None:
    lab = build_lab("line3")
    configure(
        lab, "R",
        "static:\n"
        "  - {prefix: 10.20.1.0/24, type: blackhole}\n"
        "  - {prefix: 10.20.2.0/24, type: blackhole}\n"
        "redistribute: [{source: static}]\n"
        "filters: {kernel: [{match: [10.20.1.0/24], action: deny}]}\n",
    )  # fmt: skip
    lab.start_daemons()
    wait_until(lambda: prefixes(lab, "B") == {"10.20.1.0/24", "10.20.2.0/24"}, DEADLINE_S, "both")
    assert prefixes(lab, "R") == {"10.20.2.0/24"}
    (row,) = lab.routectl("R", "show", "routes", "10.20.1.0/24")
    assert row["selected"]
    assert row["fib_reason"] == "kept out by rule 1 of filters.kernel"

    lab.write_config("R", lab.read_config("R").replace("- 10.20.1.0/24", "- 10.20.2.0/24"))
    lab.sighup("R")
    wait_until(lambda: prefixes(lab, "R") == {"10.20.1.0/24"}, DEADLINE_S, "the other way round")


def test_a_reload_raises_the_limit_of_prefixes_and_show_neighbors_reports_an_excess(
    build_lab: LabBuilder,
) -> None:
    lab = build_lab("line3")
    statics = "\n".join(
        f"  - {{prefix: 10.20.{number}.0/24, type: blackhole}}" for number in range(40)
    )
    configure(lab, "A", f"static:\n{statics}\nredistribute: [{{source: static}}]\n")
    configure(lab, "R", 'interfaces: {"eth*": {hello: 300ms, max_prefixes: 10}}\n')
    lab.start_daemons()

    def problems() -> list[str]:
        rows = lab.routectl("R", "show", "neighbors")
        return [row["problem"] for row in rows if row["interface"] == "eth-A"]

    wait_until(
        lambda: any("over max_prefixes 10" in each for each in problems()),
        DEADLINE_S, "R says that A tells too much",
    )  # fmt: skip
    assert len(prefixes(lab, "R")) <= 10
    assert "prefix_limit" in lab.log("R")

    lab.write_config("R", lab.read_config("R").replace("max_prefixes: 10", "max_prefixes: 100"))
    lab.sighup("R")
    wait_until(lambda: len(prefixes(lab, "R")) == 40, DEADLINE_S, "R has learned the rest")
    wait_until(lambda: problems() == [""], DEADLINE_S, "and has nothing to complain of")
