"""Authentication between real daemons: keys from files, a wrong key, and a key rollover by
reload.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import router_config
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
OURS, ANOTHER = "correct horse battery staple", "an altogether other one"


def write_keys(lab: Lab, router: str, secret: str, *, mode: int = 0o600, key_id: int = 1) -> None:
    """Give a router a key file, and a configuration that uses it on every link."""
    lab.write_config_unless_there(router)
    key_file = lab.file(router_config.config_path(router)).with_name("core.key")
    key_file.write_text(secret + "\n", encoding="ascii")
    key_file.chmod(mode)
    config: dict[str, Any] = yaml.safe_load(lab.read_config(router))
    config["keys"] = {"core": [{"id": key_id, "secret_file": "core.key"}]}
    config["interfaces"]["eth*"]["key"] = "core"
    lab.write_config(router, yaml.safe_dump(config))


def problems(lab: Lab, router: str) -> set[str]:
    return {str(row["problem"]) for row in lab.routectl(router, "show", "neighbors")}


def counter(lab: Lab, router: str, name: str) -> int:
    rows = lab.routectl(router, "show", "counters")
    return next(int(row["value"]) for row in rows if row["name"] == name)


def test_a_right_key_joins_and_a_wrong_one_does_not_until_it_is_corrected(
    build_lab: LabBuilder,
) -> None:
    lab = build_lab("line3")
    for router, secret in (("A", OURS), ("R", OURS), ("B", ANOTHER)):
        write_keys(lab, router, secret)
    lab.start_daemons()
    wait_until(
        lambda: lab.ping("A", "R", 1).lost == 0, DEADLINE_S, "A and R, with one key, are neighbors"
    )
    told = "the signature is not by our key 1 of 'core'"
    for router in ("R", "B"):
        wait_until(
            lambda router=router: told in problems(lab, router),  # type: ignore[misc]
            DEADLINE_S,
            f"{router} says what is wrong with the other's key",
        )
    assert counter(lab, "R", "nup_dropped_bad_mac") > 0
    assert "code=dropped_bad_mac" in lab.log("R")
    states = {row["interface"]: row["state"] for row in lab.routectl("R", "show", "neighbors")}
    assert states == {"eth-A": "up", "eth-B": "down"}

    write_keys(lab, "B", OURS)
    lab.sighup("B")  # only the secret has changed, routes.yaml has not
    lab.wait_converged(DEADLINE_S)
    assert problems(lab, "R") == {""}
    for router in lab.topology.nodes:
        shown = lab.log(router) + lab.show(router, "neighbors") + lab.show(router, "counters")
        assert OURS not in shown
        assert ANOTHER not in shown


def test_a_secret_that_other_users_can_read_is_refused(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    write_keys(lab, "R", OURS, mode=0o644)
    done = lab.run("R", ["routed", "-c", router_config.config_path("R"), "--check"])
    assert done.returncode == 2
    assert "keys.core[0].secret_file" in done.stderr
    assert "is open to others (mode 0644): chmod 600" in done.stderr
    assert OURS not in done.stderr
