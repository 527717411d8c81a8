"""Command line for networks of routers on one machine: `python netns-lab/lab.py COMMAND`.

    lab.py up ring8                 build it, start routed in every router, leave it running
    lab.py show r1 neighbors        routectl show, on r1
    lab.py cut r1-r2                and `mend r1-r2`
    lab.py exec r1                  a shell inside r1
    lab.py down                     end it and remove everything

`--name` selects a lab; it is needed if several labs of this user are up. Exit status: 0 done, 1
failed (the reason is on stderr), 2 usage error; for `exec`, `routectl` and `show` that of the
program they run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import protocol
from client import HolderClient, LabError
from demo import run_demo
from launching import end_holder
from network import Network
from terminal import run_on_terminal
from testbed import Lab, attach
from topology import TopologyError
from waiting import DeadlineExceededError

__all__ = ["Lab", "attach", "main"]

_SCENARIOS = Path(__file__).parent / "scenarios"
_CONVERGE_S = 60.0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _the_lab(options: argparse.Namespace) -> Network:
    """Attach to the lab of a command: the named one, or the only one."""
    return attach(options.name or _only_name())


def _only_name() -> str:
    names = protocol.names_of_labs()
    if len(names) == 1:
        return names[0]
    if not names:
        raise LabError("no lab is up; start one with `lab.py up line3`")
    raise LabError(f"several labs are up ({', '.join(names)}): select one with --name")


def _up(options: argparse.Namespace) -> int:
    name = options.name or Path(options.topology).stem
    lab = Lab(options.topology, name=name, is_detached=True)
    try:
        if not options.no_daemons:
            _say(f"{len(lab.topology.nodes)} routers are built; starting routed in each")
            lab.start_daemons()
            lab.wait_converged(_CONVERGE_S)
    except (LabError, DeadlineExceededError):
        _say(f"the lab {name} stays up for inspection; `lab.py down --name {name}` ends it")
        raise
    finally:
        lab.detach()
    nodes = ", ".join(lab.topology.nodes)
    _say(f"the lab {name} is up: {nodes}. `lab.py down --name {name}` ends it.")
    return 0


def _down(options: argparse.Namespace) -> int:
    names = protocol.names_of_labs() if options.all else [options.name or _only_name()]
    for name in names:
        client = HolderClient(name)
        end_holder(client)
        client.close()
        _say(f"the lab {name} has ended")
    return 0


def _list(_: argparse.Namespace) -> int:
    for name in protocol.names_of_labs():
        try:
            lab = attach(name)
        except LabError:
            if name in protocol.names_of_labs():
                raise
            continue  # it has ended since the names were read
        nodes = " ".join(lab.topology.nodes)
        print(f"{name}\t{nodes}\t{lab.topology.description}")
        lab.detach()
    return 0


def _exec(options: argparse.Namespace) -> int:
    command = options.words or [os.environ.get("SHELL", "/bin/sh")]
    return run_on_terminal(_the_lab(options), options.router, command)


def _routectl(options: argparse.Namespace) -> int:
    lab = _the_lab(options)
    command = lab.routectl_command(options.router, *options.words)
    return run_on_terminal(lab, options.router, command)


def _show(options: argparse.Namespace) -> int:
    options.words = ["show", *options.words]
    return _routectl(options)


def _cut(options: argparse.Namespace) -> int:
    _the_lab(options).cut(options.link)
    return 0


def _mend(options: argparse.Namespace) -> int:
    _the_lab(options).mend(options.link)
    return 0


def _kill(options: argparse.Namespace) -> int:
    lab = _the_lab(options)
    lab.node(options.router)
    pids = lab.kill(options.router, options.who, options.signal)
    _say(f"{options.signal.name} sent to {', '.join(map(str, pids))} of {options.router}")
    return 0


def _signal(text: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a signal (like TERM)") from None


def _ping(options: argparse.Namespace) -> int:
    lab = _the_lab(options)
    lost = 0
    for version in (4, 6):
        report = lab.ping(options.source, options.destination, options.count, version)
        lost += report.lost
        print(f"IPv{version}: {report.received} of {report.sent} answered")
    return 1 if lost else 0


def _logs(options: argparse.Namespace) -> int:
    lab = _the_lab(options)
    print(lab.log(lab.node(options.router).name), end="")
    return 0


def _start(options: argparse.Namespace) -> int:
    _the_lab(options).start_daemons([options.router])
    return 0


def _scenario(options: argparse.Namespace) -> int:
    known = sorted(path.stem for path in _SCENARIOS.glob("*.py"))
    if options.scenario not in known:
        raise LabError(f"there is no scenario {options.scenario!r}; there are {', '.join(known)}")
    scenario = importlib.import_module(f"scenarios.{options.scenario}")
    with Lab(options.topology or scenario.TOPOLOGY) as lab:
        try:
            scenario.run(lab, _say)
        except (LabError, AssertionError):
            _say(lab.dump())
            raise
    return 0


def _demo(_: argparse.Namespace) -> int:
    return run_demo()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab.py", description="Networks of routers on one machine, each running routed."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, function: Callable[[argparse.Namespace], int], summary: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(function=function)
        added.add_argument("--name", help="name of the lab; needed if several labs are up")
        return added

    up = command("up", _up, "build a network, start routed in every router, leave it running")
    up.add_argument("topology", help="a name in topologies/, or a YAML file")
    up.add_argument("--no-daemons", action="store_true", help="build the network only")
    down = command("down", _down, "end a lab and everything in it")
    down.add_argument("--all", action="store_true", help="every lab of this user")
    command("list", _list, "list the labs that are up")
    for name, function, summary in (
        ("exec", _exec, "run a program inside a router, by default a shell"),
        ("show", _show, "run routectl show WORDS on a router"),
        ("routectl", _routectl, "run routectl WORDS on a router; without words its shell"),
    ):
        added = command(name, function, summary)
        added.add_argument("router")
        added.add_argument("words", nargs=argparse.REMAINDER, metavar="WORD")
    for name, function, summary in (
        ("cut", _cut, "switch a link off at A's end"),
        ("mend", _mend, "switch it on again"),
    ):
        command(name, function, summary).add_argument("link", metavar="A-B")
    kill = command("kill", _kill, "send a signal to the processes of a router's daemon")
    kill.add_argument("router")
    kill.add_argument("who", choices=["engine", "liveness", "daemon", "both"])
    kill.add_argument("signal", nargs="?", type=_signal, default="KILL", help="default: KILL")
    command("start", _start, "start routed in a router again").add_argument("router")
    ping = command("ping", _ping, "ping from A's loopback addresses to B's, in both families")
    ping.add_argument("source", metavar="A")
    ping.add_argument("destination", metavar="B")
    ping.add_argument("--count", type=int, default=5)
    command("logs", _logs, "print a router's log").add_argument("router")
    scenario = command("scenario", _scenario, "run a scenario in a separate lab")
    scenario.add_argument("scenario", help="a name in scenarios/")
    scenario.add_argument("topology", nargs="?", help="default: the scenario's own")
    command("demo", _demo, "build three routers in a line and check that they work (`make run`)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.function(options)
        sys.stdout.flush()
    except (LabError, TopologyError, DeadlineExceededError) as error:
        _say(f"lab.py: {error}")
        return 1
    except KeyboardInterrupt:
        _say("lab.py: interrupted")
        return 130
    except BrokenPipeError:  # the reader of the output has what it needs, as `head` has
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
