"""The command tree: the one place where a command is declared.

To add a command, add a leaf in the notation of `grammar.py`; tests then ask for its text form, its
JSON form and its golden files.
"""

from __future__ import annotations

from ipc.control import (
    ClearNeighbor,
    Explain,
    Fib,
    Monitor,
    RecordNup,
    Request,
    Role,
    SetLogLevel,
    ShowConfig,
    ShowCounters,
    ShowFib,
    ShowInterfaces,
    ShowLog,
    ShowMemory,
    ShowMetrics,
    ShowNeighbors,
    ShowNextHops,
    ShowProtocol,
    ShowRoute,
    ShowRoutes,
    ShowRules,
    ShowStatus,
    Topology,
)
from routectl.bfd_commands import SHOW_BFD
from routectl.config_commands import CONFIGURATION
from routectl.grammar import (
    Ask,
    Assess,
    Branch,
    Command,
    Draw,
    ExplainAddress,
    Fields,
    Flag,
    Invocation,
    Keyword,
    Leaf,
    Local,
    LocalAction,
    Lookup,
    Positional,
    Save,
    ValueKind,
    Watch,
)
from routectl.nup_commands import SHOW_NUP
from routectl.probe_commands import SHOW_PROBE, SHOW_PROBES
from routectl.render import views
from routectl.route_commands import ROUTE
from routectl.traffic_commands import CLEAR_TRAFFIC, DATAPLANE_AND_TRAFFIC
from routectl.wait_commands import WAIT

__all__ = ["TREE"]


_SHOW_ROUTES = Fields(
    ShowRoutes,
    (
        "@family",
        "prefix",
        "longer?",
        "source",
        "selected?",
        "neighbor",
        "interface",
        "via",
        "state",
        "table",
    ),
)


def _show_route(invocation: Invocation) -> Request:
    destination = str(invocation.value("destination"))
    table = invocation.value("table")
    if "/" in destination:
        return ShowRoutes(prefix=destination, table=table)
    return ShowRoute(destination, table)


_PREFIX = Positional("prefix", ValueKind.PREFIX, "Only this prefix")
_STATE = Keyword("state", ValueKind.STATE, "Only those in this state in the kernel")
_LONGER = Flag("longer", "With a prefix: everything inside it")
_TABLES = Keyword("table", ValueKind.TABLE, "Of this table instead of the main one, or `all`")
_TABLE = Keyword("table", ValueKind.TABLE, "Of this table instead of the main one")

_SHOW = Branch(
    "show",
    "Look at the daemon's state",
    (
        Leaf(
            "status",
            "The daemon as a whole: identity, health, totals",
            "show status",
            Role.READ,
            Ask(Fields(ShowStatus), views.STATUS),
        ),
        Leaf(
            "neighbors",
            "Neighbors and the state of each adjacency",
            "show neighbors interface eth0",
            Role.READ,
            Ask(Fields(ShowNeighbors, ("neighbor", "interface")), views.NEIGHBORS),
            (
                Positional("neighbor", ValueKind.NEIGHBOR, "Only this router id or address"),
                Keyword("interface", ValueKind.INTERFACE, "Only those on this interface"),
            ),
        ),
        Leaf(
            "interfaces",
            "Interfaces, their addresses, and whether NUP runs on them",
            "show interfaces eth0",
            Role.READ,
            Ask(Fields(ShowInterfaces, ("interface",)), views.INTERFACES),
            (Positional("interface", ValueKind.INTERFACE, "Only this interface"),),
        ),
        Leaf(
            "routes",
            "All candidates of all prefixes in the RIB; * marks the selected one",
            "show routes 10.0.0.0/8 longer source static",
            Role.READ,
            Ask(_SHOW_ROUTES, views.ROUTES),
            (
                _PREFIX,
                _LONGER,
                Keyword("source", ValueKind.SOURCE, "Only candidates of this source"),
                Flag("selected", "Only selected candidates"),
                Keyword("neighbor", ValueKind.NEIGHBOR, "Only those through this neighbor"),
                Keyword("interface", ValueKind.INTERFACE, "Only those through this interface"),
                Keyword("via", ValueKind.ADDRESS, "Only those with this gateway"),
                _STATE,
                _TABLES,
            ),
        ),
        Leaf(
            "route",
            "The candidates of the longest prefix that matches an address, or of a prefix",
            "show route 192.0.2.1",
            Role.READ,
            Ask(_show_route, views.ROUTES),
            (
                Positional(
                    "destination", ValueKind.DESTINATION, "The destination", is_required=True
                ),
                _TABLE,
            ),
        ),
        Leaf(
            "fib",
            "The routes desired in the kernel, and whether they are installed",
            "show fib 10.0.0.0/8 longer",
            Role.READ,
            Ask(Fields(ShowFib, ("@family", "prefix", "longer?", "state", "table")), views.FIB),
            (_PREFIX, _LONGER, _STATE, _TABLES),
        ),
        Leaf(
            "nexthops",
            "The kernel nexthop objects that routes use",
            "show nexthops",
            Role.READ,
            Ask(lambda _: ShowNextHops(), views.NEXTHOPS),
        ),
        Leaf(
            "rules",
            "The policy rules of the configuration, and whether the kernel has them",
            "show rules",
            Role.READ,
            Ask(lambda _: ShowRules(), views.RULES),
        ),
        SHOW_BFD,
        SHOW_NUP,
        SHOW_PROBES,
        SHOW_PROBE,
        Leaf(
            "protocol",
            "The sources of routes: state, distance and number of candidates of each",
            "show protocol",
            Role.READ,
            Ask(Fields(ShowProtocol), views.PROTOCOL),
        ),
        Leaf(
            "config",
            "The running configuration, in the form of a configuration file, without secrets",
            "show config fib",
            Role.READ,
            Ask(Fields(ShowConfig, ("section", "all?")), views.CONFIG),
            (
                Positional("section", ValueKind.SECTION, "Only this section, such as `fib`"),
                Flag("all", "Include options that have their default value"),
            ),
        ),
        Leaf(
            "counters",
            "All counters, each with its meaning",
            "show counters",
            Role.READ,
            Ask(Fields(ShowCounters), views.COUNTERS),
        ),
        Leaf(
            "log",
            "The last lines of the log at level info and above, oldest first",
            "show log level warning",
            Role.READ,
            Ask(Fields(ShowLog, ("level", "event")), views.LOG),
            (
                Keyword("level", ValueKind.LEVEL, "The lowest level to show"),
                Keyword("event", ValueKind.EVENT, "Only lines of this event"),
            ),
        ),
        Leaf(
            "memory",
            "Memory used by each part of the daemon",
            "show memory",
            Role.READ,
            Ask(Fields(ShowMemory), views.MEMORY),
        ),
        Leaf(
            "metrics",
            "The metrics in the text format of Prometheus, as the metrics endpoint serves them",
            "show metrics",
            Role.READ,
            Ask(Fields(ShowMetrics), views.METRICS),
        ),
        *DATAPLANE_AND_TRAFFIC,
    ),
)

TREE = Branch(
    "",
    "Commands",
    (
        _SHOW,
        Leaf(
            "health",
            "The daemon's health as one line and as the exit status: 0 ok, 1 degraded, 2 failed",
            "health",
            Role.READ,
            Assess(Fields(ShowStatus), views.HEALTH),
        ),
        Leaf(
            "lookup",
            "Longest match for addresses, searched in the shared-memory snapshot",
            "lookup 192.0.2.1 2001:db8::1",
            Role.READ,
            Lookup(views.LOOKUP),
            (
                Positional(
                    "addresses",
                    ValueKind.ADDRESS,
                    "The destinations",
                    is_required=True,
                    is_repeated=True,
                ),
            ),
        ),
        Branch(
            "fib",
            "The kernel FIB as a whole",
            (
                Leaf(
                    "couple",
                    "Install every desired route in the kernel again",
                    "fib couple",
                    Role.ADMIN,
                    Command(lambda _: Fib("couple")),
                ),
                Leaf(
                    "decouple",
                    "Remove all of the daemon's routes from the kernel and keep the RIB",
                    "fib decouple",
                    Role.ADMIN,
                    Command(lambda _: Fib("decouple")),
                ),
                Leaf(
                    "resync",
                    "Read the kernel's routes now, repair differences and report them",
                    "fib resync",
                    Role.ADMIN,
                    Command(lambda _: Fib("resync")),
                ),
            ),
        ),
        Leaf(
            "topology",
            "The network as known to NUP, as a table or a picture",
            "topology format svg",
            Role.READ,
            Draw(Fields(Topology), views.TOPOLOGY),
            (Keyword("format", ValueKind.FORMAT, "table, dot, mermaid or svg"),),
        ),
        Leaf(
            "report",
            "The daemon's state as one HTML page, with tables and a picture of the network",
            "report",
            Role.NONE,
            Local(LocalAction.REPORT),
        ),
        Leaf(
            "doctor",
            "What may lose or slow packets on this host, and the command that changes it; status 0 "
            "nothing, 1 warnings, 2 problems",
            "doctor all",
            Role.NONE,
            Local(LocalAction.DOCTOR),
            (Flag("all", "Also what needs no change or cannot be examined here"),),
        ),
        Leaf(
            "top",
            "Neighbors, rates and the FIB on a full screen, updated every second; q quits",
            "top",
            Role.NONE,
            Local(LocalAction.TOP),
        ),
        Leaf(
            "explain",
            "Which route is used for an address, why others were not selected, what the kernel "
            "answers",
            "explain 192.0.2.1",
            Role.READ,
            ExplainAddress(Fields(Explain, ("address", "table")), views.EXPLAIN),
            (Positional("address", ValueKind.ADDRESS, "The destination", is_required=True), _TABLE),
        ),
        Leaf(
            "monitor",
            "Changes of routes, neighbors and links as they happen, one per line",
            "monitor routes",
            Role.READ,
            Watch(lambda invocation: Monitor(invocation.values.get("topics", ())), views.CHANGES),
            (Positional("topics", ValueKind.TOPIC, "Only these", is_repeated=True),),
        ),
        ROUTE,
        WAIT,
        *CONFIGURATION,
        Branch(
            "clear",
            "Reset something",
            (
                Leaf(
                    "neighbor",
                    "Reset all adjacencies with a neighbor; they come up again without help",
                    "clear neighbor 10.255.0.2",
                    Role.ADMIN,
                    Command(Fields(ClearNeighbor, ("neighbor",))),
                    (
                        Positional(
                            "neighbor",
                            ValueKind.NEIGHBOR,
                            "Its router id or its address",
                            is_required=True,
                        ),
                    ),
                ),
                CLEAR_TRAFFIC,
            ),
        ),
        Branch(
            "record",
            "Record the inputs of NUP, for a replay with python -m routed.replay",
            (
                Leaf(
                    "on",
                    "Start recording: the present state, then every datagram and event",
                    "record on",
                    Role.ADMIN,
                    Command(Fields(RecordNup, ("=on",))),
                ),
                Leaf(
                    "off",
                    "Stop recording, and write the last recording to a file, without secrets",
                    "record off fault.jsonl",
                    Role.ADMIN,
                    Save(Fields(RecordNup, ("=off",))),
                    (
                        Positional(
                            "file",
                            ValueKind.FILE,
                            "A file that does not exist yet; - is standard output",
                            is_required=True,
                        ),
                    ),
                ),
            ),
        ),
        Branch(
            "log",
            "The daemon's log",
            (
                Leaf(
                    "reopen",
                    "Open the log file again after it was renamed, as logrotate does",
                    "log reopen",
                    Role.ADMIN,
                    Command(Fields(SetLogLevel, ("=reopen",))),
                ),
                Leaf(
                    "level",
                    "Set the log level, until the configuration changes it or the daemon restarts",
                    "log level debug",
                    Role.ADMIN,
                    Command(Fields(SetLogLevel, ("level",))),
                    (
                        Positional(
                            "level",
                            ValueKind.LEVEL,
                            "The lowest level that is logged",
                            is_required=True,
                        ),
                    ),
                ),
            ),
        ),
        Leaf(
            "help",
            "Show what a command does and its syntax",
            "help show routes",
            Role.NONE,
            Local(LocalAction.HELP),
            (Positional("command", ValueKind.COMMAND, "Its words", is_repeated=True),),
        ),
        Leaf(
            "completion",
            "Print the completion script for a shell: source <(routectl completion bash)",
            "completion bash",
            Role.NONE,
            Local(LocalAction.COMPLETION),
            (Positional("shell", ValueKind.SHELL, "bash, zsh or fish", is_required=True),),
        ),
        Leaf("quit", "Leave the shell", "quit", Role.NONE, Local(LocalAction.QUIT)),
        Leaf("exit", "Leave the shell", "exit", Role.NONE, Local(LocalAction.QUIT)),
    ),
)
