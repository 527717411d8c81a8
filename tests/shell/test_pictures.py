"""Pictures, the report, completion scripts, the manual page and `top` are made from the
same data.
"""

from __future__ import annotations

import html
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ipc.blocking import ControlClient, ExitStatus
from routectl.cli import main
from routectl.command_line import command_line_for
from routectl.commands import TREE
from routectl.completion import SHELLS, candidates, script
from routectl.grammar import SHELLS as SHELL_WORDS
from routectl.grammar import ValueKind, leaves
from routectl.manual import manual_page
from routectl.render.json import JsonOutput
from routectl.render.report import Section, html_report
from routectl.render.text import Row, TextOutput, printable
from routectl.render.topology import as_dot, as_mermaid, as_svg
from routectl.render.views import NEIGHBORS
from routectl.top import SORT_COLUMNS, Sample, Screen, rates, take_sample
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.shell.test_golden import compare

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("pictures") / "routed.sock"
    with (
        closing(FakeDaemon()) as daemon,
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
    ):
        yield path


def run(socket_path: Path, line: str) -> str:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["--socket", str(socket_path)], out, errors) as command_line:
        assert command_line.run_line(line) is ExitStatus.DONE
    assert errors.getvalue() == ""
    return out.getvalue()


@pytest.mark.parametrize("name", ["table", "dot", "mermaid", "svg"])
def test_pictures_equal_the_golden_files(
    socket_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    is_updating = bool(request.config.getoption("--update-golden", default=False))
    text = run(socket_path, f"topology format {name}")
    compare(f"topology.{name}", text, is_updating=is_updating)


def network(neighbors: int, others: int) -> list[Row]:
    def router(name: str, role: str, number: int, via: list[str]) -> Row:
        return {
            "router_id": name,
            "role": role,
            "interface": f"eth{number}",
            "state": "up" if role == "neighbor" else None,
            "cost": 10,
            "metric": 10,
            "prefixes": 2,
            "via": via,
        }

    return [
        router("10.255.0.1", "self", 0, []),
        *[router(f"10.255.1.{number}", "neighbor", number, []) for number in range(neighbors)],
        *[
            router(f"10.255.2.{number}", "router", number, [f"10.255.1.{number % neighbors}"])
            for number in range(others)
        ],
    ]


@pytest.mark.parametrize(("neighbors", "others"), [(1, 0), (2, 2), (8, 30), (40, 100)])
def test_no_two_boxes_touch_and_all_are_inside(neighbors: int, others: int) -> None:
    root = ElementTree.fromstring("\n".join(as_svg(network(neighbors, others))))
    x0, y0, width, height = map(float, root.attrib["viewBox"].split())
    boxes = [
        tuple(float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        for rect in root.iter(f"{SVG}rect")
        if "rx" in rect.attrib
    ]
    assert len(boxes) == 1 + neighbors + others
    for x, y, w, h in boxes:
        assert x0 <= x
        assert x + w <= x0 + width
        assert y0 <= y
        assert y + h <= y0 + height
    for index, (x, y, w, h) in enumerate(boxes):
        for other_x, other_y, *_ in boxes[index + 1 :]:
            assert abs(x - other_x) >= w or abs(y - other_y) >= h


class _Balance(HTMLParser):
    """Counts the elements that are open."""

    VOID = frozenset({"meta", "line", "rect", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_page_that_loads_nothing_else(socket_path: Path) -> None:
    page = run(socket_path, "report")
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    for words in ("10.255.0.1", "Topology", "2001:db8:5::/48", "Network is unreachable", "up"):
        assert words in parser.text
    assert not re.search(r'(?:src|href)="', page)
    assert "<svg" in page


def test_the_report_has_its_style_and_cells_of_several_lines(socket_path: Path) -> None:
    r"""A style sheet with an escaped line break, a literal `\n`, is not valid."""
    page = run(socket_path, "report")
    assert "\\n" not in page
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    rules = re.sub(r"\s*\n\s*", " ", style).strip()
    assert rules.startswith("body { font: 15px/1.45 sans-serif;")
    assert re.fullmatch(r"(?:[a-z0-9., ]+\{ [^{}]+ \} ?)+", rules)
    assert re.search(r"<td>via fe80::2 dev eth0 weight 2<br>via 192", page)


HOSTILE_NAMES = [
    'a"b', "a\\", 'a\\"b', "a]b[", "a;b", "a|b", "<b>&amp;", "`x`", "#quot;", "%%{init}",
    "\x1b[31m", "\u6771\u4eac", "-x", "$(id)", "a\u2028b", "{a}", "end", "a\nb",
]  # fmt: skip


def named(name: str) -> list[Row]:
    rows = network(1, 1)
    for row in rows:
        row["interface"] = name
    return rows


def dot_strings(lines: list[str]) -> list[str]:
    """Return the quoted strings of DOT by its grammar, in order; the rest must be known text."""
    text = "\n".join(lines)
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    rest = re.sub(r'"(?:[^"\\]|\\.)*"', "S", text)
    assert re.fullmatch(
        r"graph routed \{\n  node \[shape=box, style=rounded\];\n"
        r"(?:  S(?: -- S)? \[label=S(?:, style=dashed)?\];\n)+\}",
        rest,
    )
    return strings


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_dot_picture_is_well_formed_for_any_name_of_a_link(name: str) -> None:
    label = next(text for text in dot_strings(as_dot(named(name))) if " cost " in text)
    shown = html.unescape(re.sub(r"\\(.)", r"\1", label))
    assert shown == f"{printable(name)} cost 10"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_mermaid_picture_is_well_formed_for_any_name_of_a_link(name: str) -> None:
    lines = as_mermaid(named(name))
    assert re.fullmatch(
        r'graph LR(?:\n  r\d+(?:\["[^"]*"\]| (?:---|-\.-)\|"[^"]*"\| r\d+))+', "\n".join(lines)
    )
    label = next(line for line in lines if " cost " in line).split('"')[1]
    assert not re.search(r"[\\<>`%{}\[\]|$]", label)
    shown = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label)
    assert shown == f"{printable(name)} cost 10"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_an_svg_and_a_page_are_well_formed_for_any_name_of_a_link(name: str) -> None:
    root = ElementTree.fromstring("\n".join(as_svg(named(name))))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert f"{printable(name)} cost 10" in texts
    sections: list[Section] = [("Neighbors", NEIGHBORS, named(name), "")]
    page = html_report({"router_id": "10.255.0.1"}, named(name), sections, "today")
    assert all("\n" not in line for line in page)
    parser = _Balance()
    parser.feed("\n".join(page))
    assert parser.open == []
    assert printable(name) in parser.text


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_table_and_json_show_any_name(name: str) -> None:
    out = io.StringIO()
    TextOutput(out, out, has_color=False).show(NEIGHBORS, [named(name)])
    assert printable(name) in out.getvalue().replace("\n", "") or "\n" in name
    assert "\x1b" not in out.getvalue()
    out = io.StringIO()
    JsonOutput(out, is_pretty=False).show(NEIGHBORS, [named(name)])
    assert json.loads(out.getvalue())["data"][1]["interface"] == name


def test_completion_omits_a_name_that_a_shell_would_execute() -> None:
    def live(kind: ValueKind, start: str) -> list[str]:
        del kind, start
        return ["eth0", "$(id)", "a;b", "\u6771\u4eac", "a b", "`x`"]

    offered = list(candidates("routectl show interfaces ", lambda _socket: live))
    words = [line.partition("\t")[0] for line in offered]
    assert [word for word in words if word in ("eth0", "\u6771\u4eac")] == ["eth0", "\u6771\u4eac"]
    assert not set("$;` ") & set("".join(words))


@pytest.mark.parametrize("line", ["routectl sh", "routectl show nei", "routectl --json show "])
def test_completion_scripts_list_the_words_of_the_grammar(
    socket_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-s", str(socket_path), "--complete", line]) == 0
    said = capsys.readouterr().out.splitlines()
    assert all("\t" in candidate for candidate in said)
    words = [candidate.partition("\t")[0] for candidate in said]
    assert (
        words
        == {
            "routectl sh": ["show"],
            "routectl show nei": ["neighbors"],
            "routectl --json show ": list(
                dict.fromkeys(words[1] for words, _ in leaves(TREE) if words[0] == "show")
            ),
        }[line]
    )


def test_completion_scripts_list_values_of_the_daemon_at_the_named_socket(
    socket_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--complete", f"routectl -s {socket_path} show neighbors fe"])
    assert capsys.readouterr().out.startswith("fe80::2\t")


@pytest.mark.parametrize("shell", SHELL_WORDS)
def test_the_completion_scripts_are_valid_in_their_shells(shell: str, tmp_path: Path) -> None:
    assert tuple(SHELLS) == SHELL_WORDS
    path = tmp_path / "script"
    path.write_text("\n".join(script(shell)) + "\n")
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([program, "-n", str(path)], check=True, timeout=60)


def test_bash_completes_with_its_script(socket_path: Path, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    stub = tmp_path / "routectl"
    stub.write_text('#!/bin/sh\nprintf "fe80::2\\tthe neighbor\\nfe80::9\\tanother\\n"\n')
    stub.chmod(0o755)
    program = "\n".join(
        [
            *script("bash"),
            'COMP_LINE="routectl show neighbors fe80::"; COMP_POINT=${#COMP_LINE}; _routectl',
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    done = subprocess.run(
        [bash, "-c", program],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["2", "9"], "bash has the part before the last colon already"


def test_the_manual_page_has_every_command_and_no_warning() -> None:
    page = manual_page()
    for words, leaf in leaves(TREE):
        assert f".B {' '.join(words)}".replace("-", "\\-") in page
        assert leaf.example.replace("-", "\\-") in page
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [groff, "-man", "-ww", "-Tutf8"], input=page, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "reload" in done.stdout


def test_top_says_what_is_cut_off(socket_path: Path) -> None:
    with ControlClient(str(socket_path)) as client:
        sample = take_sample(client)
    screen = Screen()
    screen.take(sample)
    whole = screen.text()
    assert screen.text((24, 200)) == whole
    lines = screen.text((6, 200)).splitlines()
    assert len(lines) == 6
    assert "[3 more lines] s sort" in lines[-1]
    assert "more columns] s sort" in screen.text((24, 60))
    assert "[3 more lines, " in screen.text((6, 60))


def test_top_shows_rates_and_sorts(socket_path: Path) -> None:
    with ControlClient(str(socket_path)) as client:
        sample = take_sample(client)
    screen = Screen()
    screen.take(sample._replace(at=0.0))
    assert "-  received" in screen.text().replace("- received", "-  received")
    later = Sample(2.0, sample.status, sample.neighbors, dict(sample.counters))
    later.counters["nup_received"] += 20
    assert rates(sample._replace(at=0.0), later)["nup_received"] == 10.0
    screen.take(later)
    text = screen.text()
    assert "10/s received" in text
    assert text.index("fe80::2") < text.index("192.0.2.9"), "what is not known comes last"
    screen.sort_next()
    screen.turn_round()
    text = screen.text()
    assert f"sort ({SORT_COLUMNS[1]}, down)" in text
    assert text.index("192.0.2.9") < text.index("fe80::2")
    screen.fail("routed is not running")
    assert "routed is not running" in screen.text()
