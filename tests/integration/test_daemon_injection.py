"""Injected routes in real daemons: leases, sessions, the client libraries, the example, and a large
import.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import router_config
from protocol import RUN_DIRECTORY
from testbed import Lab
from tests.fakes.route_monitor import RouteMonitor
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]
ANYCAST = "192.0.2.53/32"


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    for router in ("A", "R", "B"):
        lab.write_config_unless_there(router)
    announced = "redistribute:\n- source: injected\n"
    lab.write_config("R", lab.read_config("R").replace("redistribute:\n", announced))
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


def program(lab: Lab, text: str) -> list[str]:
    """The command of a client program. It runs inside the lab, where the daemon can see its pid."""
    path = lab.file(f"{RUN_DIRECTORY}/R/program.py")
    path.write_text(f"SOCKET = {router_config.socket_path('R')!r}\n" + textwrap.dedent(text))
    return [sys.executable, f"{RUN_DIRECTORY}/R/program.py"]


def in_kernel(lab: Lab, router: str, prefix: str) -> bool:
    return any(route.prefix == prefix for route in lab.kernel_routes(router))


def wait_for(lab: Lab, router: str, prefix: str, *, is_there: bool) -> None:
    word = "in" if is_there else "gone from"
    wait_until(
        lambda: in_kernel(lab, router, prefix) is is_there,
        DEADLINE_S,
        f"{prefix} is {word} {router}'s kernel",
    )


@contextmanager
def running(lab: Lab, router: str, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = lab.popen(router, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_route_of_a_session_reaches_the_neighbors_and_is_removed_with_its_owner(lab: Lab) -> None:
    command = program(
        lab,
        """
        import sys
        from ipc.client import Client

        with Client(SOCKET) as routed:
            routed.add("192.0.2.53/32", dev="lo", lease="session")
            sys.stdin.read()
        """,
    )
    with running(lab, "R", command) as owner:
        wait_for(lab, "A", ANYCAST, is_there=True)
        (row,) = lab.routectl("R", "show", "routes", ANYCAST)
        assert (row["source"], row["distance"], row["fib_state"]) == ("injected", 5, "installed")
        assert row["owner"].startswith("uid0/pid")
        owner.communicate()
        for router in ("R", "A"):
            wait_for(lab, router, ANYCAST, is_there=False)


def test_the_routes_of_a_killed_owner_are_removed(lab: Lab) -> None:
    command = lab.routectl_command("R", "route", "add", ANYCAST, "dev", "lo", "lease", "session")
    with running(lab, "R", command):
        wait_for(lab, "A", ANYCAST, is_there=True)
    wait_for(lab, "A", ANYCAST, is_there=False)


def test_a_lease_that_is_not_renewed_expires(lab: Lab) -> None:
    route = ["routectl", "route"]
    done = lab.run("R", [*route, "add", ANYCAST, "dev", "lo", "lease", "5m", "owner", "test"])
    assert done.returncode == 0, done.stderr
    assert lab.routectl("R", "show", "routes", ANYCAST)[0]["owner"] == "uid0/test"
    wait_for(lab, "R", ANYCAST, is_there=True)
    last = lab.run("R", [*route, "renew", "lease", "1s", "owner", "test"])
    assert last.returncode == 0, last.stderr
    wait_for(lab, "R", ANYCAST, is_there=False)
    late = lab.run("R", [*route, "renew", "lease", "30s", "owner", "test"])
    assert (late.returncode, "no leased routes" in late.stderr) == (1, True)
    assert "lease-ended" in lab.log("R")


def test_routectl_adds_replaces_and_deletes(lab: Lab) -> None:
    via = str(lab.node("A").loopbacks[0].ip)
    ask = ["routectl", "route"]
    assert lab.run("R", [*ask, "add", ANYCAST, "via", via, "metric", "7"]).returncode == 0
    (row,) = lab.routectl("R", "show", "routes", ANYCAST)
    assert (row["metric"], row["fib_state"] in ("installed", "pending")) == (7, True)
    again = lab.run("R", [*ask, "add", ANYCAST, "type", "blackhole"])
    assert (again.returncode, "already" in again.stderr) == (1, True)
    assert lab.run("R", [*ask, "replace", ANYCAST, "type", "blackhole"]).returncode == 0
    assert lab.routectl("R", "show", "routes", ANYCAST)[0]["type"] == "blackhole"
    assert lab.run("R", [*ask, "delete", ANYCAST]).returncode == 0
    wait_for(lab, "R", ANYCAST, is_there=False)
    assert lab.run("R", [*ask, "delete", ANYCAST]).returncode == 1


def test_a_file_and_a_program_inject_thousands(lab: Lab, tmp_path: Path) -> None:
    count = 20_000
    table = tmp_path / "routes.txt"
    prefixes = [f"11.{n >> 8}.{n & 255}.0/24" for n in range(count)]
    table.write_text("".join(f"{prefix} via 10.0.0.99 dev eth-A onlink\n" for prefix in prefixes))
    command = lab.routectl_command("R", "route", "import", str(table))
    done = lab.run("R", command)
    assert (done.returncode, done.stdout) == (0, f"{count} routes imported\n"), done.stderr
    # A program of the same user is the same owner.
    bulk = program(
        lab,
        f"""
        from ipc.client import Client, NextHop, Route

        hops = (NextHop(dev="eth-A"), NextHop(dev="eth-B"))
        routes = [Route(line.split()[0], hops) for line in open({str(table)!r})][:5000]
        with Client(SOCKET) as routed:
            assert routed.replace_many(routes) == 5000
        """,
    )
    done = lab.run("R", bulk)
    assert done.returncode == 0, done.stderr

    def is_complete() -> bool:
        fib = lab.routectl("R", "show", "status")[0]["fib"]
        return bool(fib["installed"] == fib["desired"] >= count and not fib["pending"])

    wait_until(is_complete, DEADLINE_S, "all are in the kernel")
    kernel = {route.prefix: len(route.next_hops) for route in lab.kernel_routes("R")}
    assert [kernel[prefix] for prefix in prefixes] == [2] * 5000 + [1] * (count - 5000)
    lab.wait_converged(DEADLINE_S)


def test_the_trio_client_has_the_same_functions(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.start_daemons(["R"])
    command = program(
        lab,
        """
        import sys
        import trio
        from ipc.client import ControlError, Route
        from ipc.trio_client import TrioClient

        async def main():
            async with TrioClient(SOCKET) as routed:
                await routed.add("192.0.2.53", dev="lo", lease="session")
                try:
                    await routed.add("192.0.2.53", dev="lo", lease="session")
                except ControlError as error:
                    assert "already" in str(error)
                assert (await routed.route("192.0.2.53"))[0]["prefix"] == "192.0.2.53/32"
                assert await routed.replace_many([Route("10.77.0.0/16", type="blackhole")]) == 1
                await routed.delete("10.77.0.0/16")
                await routed.delete("192.0.2.53")
                assert await routed.routes("192.0.2.53/32") == []
                with trio.move_on_after(0):
                    await routed.status()  # cancelled: the next request connects anew
                assert (await routed.status())["router_id"] == "10.255.0.2"
                print("before", flush=True)
                await trio.to_thread.run_sync(sys.stdin.readline)
                while True:
                    try:
                        assert await routed.neighbors() == []
                        break
                    except ControlError:
                        await trio.sleep(0.05)
                print("after", flush=True)

        trio.run(main)
        """,
    )
    with running(lab, "R", command) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert owner.stdout.readline() == "before\n"
        lab.kill("R", "engine")
        owner.stdin.write("\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "after\n"


def test_the_anycast_example_follows_its_check(lab: Lab, tmp_path: Path) -> None:
    healthy = tmp_path / "healthy"
    healthy.touch()
    command = [
        sys.executable, str(ROOT / "docs" / "examples" / "anycast.py"), ANYCAST,
        "--check", f"test -e {healthy}", "--interval", "0.2",
        "--socket", router_config.socket_path("R"),
    ]  # fmt: skip
    with running(lab, "R", command):
        wait_for(lab, "A", ANYCAST, is_there=True)
        healthy.unlink()
        wait_for(lab, "A", ANYCAST, is_there=False)
        healthy.touch()
        wait_for(lab, "A", ANYCAST, is_there=True)
    wait_for(lab, "A", ANYCAST, is_there=False)


def test_injected_routes_survive_the_engine(lab: Lab) -> None:
    """A user expects that: the daemon ran all the time, so its injected routes hold."""
    kept, leased, deleted = "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"
    lab.routectl("R", "route", "add", kept, "type", "blackhole", "metric", "7", "owner", "ops")
    lab.routectl("R", "route", "add", leased, "type", "blackhole", "lease", "300s")
    lab.routectl("R", "route", "add", deleted, "type", "blackhole")
    lab.routectl("R", "route", "delete", deleted)
    wait_for(lab, "R", leased, is_there=True)
    wait_until(lambda: "fib-in-sync" in lab.log("R"), DEADLINE_S, "the first engine is in sync")
    for restarts in (1, 2):
        engine = lab.engine_pid("R")
        with RouteMonitor(lab, "R") as monitor:
            lab.kill("R", "engine")
            wait_until(
                lambda old=engine: lab.engine_pid("R") not in (None, old),  # type: ignore[misc]
                DEADLINE_S,
                "another engine runs",
            )
            wait_until(
                lambda: lab.log("R").count("fib-in-sync") > restarts,  # noqa: B023
                DEADLINE_S,
                "what is stale is swept",
            )
        assert not {prefix for _, prefix in monitor.heard} & {kept, leased, deleted}
        rows = {
            row["prefix"]: row for row in lab.routectl("R", "show", "routes", "source", "injected")
        }
        assert set(rows) == {kept, leased}
        assert rows[kept]["metric"] == 7
        assert rows[kept]["owner"].endswith("/ops")
        assert rows[kept]["lease_s"] is None
        assert 0 < rows[leased]["lease_s"] < 300
    lab.routectl("R", "route", "delete", kept, "owner", "ops")
    wait_for(lab, "R", kept, is_there=False)
