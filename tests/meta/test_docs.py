"""What the pages name exists: tests, files, folders, modules, links. The index has every page."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    str(page.relative_to(ROOT)): page
    for page in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "configs" / "README.md",
        ROOT / "netns-lab" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "tests").glob("*/README.md")),
    )
}
FOLDERS = ("routed", "routectl", "ipc", "tests", "netns-lab", "configs", "docs")
PACKAGES = sorted(
    str(path.parent.relative_to(ROOT))
    for package in ("routed", "routectl", "ipc")
    for path in (ROOT / package).rglob("__init__.py")
    if path.parent.name != "routed"
)
NO_MODULES = re.compile(r"routed\.(sock|pid|service|log)\b|routed\.py$")
"""Names of files of an installed daemon that look like modules."""

NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def words_of(page: Path) -> Iterator[str]:
    """Each word of the text in backquotes of a page, outside its blocks of code."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    for quoted in re.findall(r"`([^`]+)`", text):
        yield from (word.strip("(),;:") for word in quoted.split())


def words_like(pattern: str) -> list[tuple[str, str]]:
    """Each page with each of its words that match as a whole, once."""
    compiled = re.compile(pattern)
    return sorted(
        {
            (name, word.split("::")[0])
            for name, page in PAGES.items()
            for word in words_of(page)
            if compiled.fullmatch(word.split("::")[0])
        }
    )


def is_there(path: Path) -> bool:
    """Whether a path of the tree exists, as it is or as a module without its ending."""
    return path.exists() or path.with_name(path.name + ".py").is_file()


@functools.cache
def defined_in(file: Path) -> frozenset[str]:
    """Every function and class of a file. What a comment or a text names is not there."""
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    )


TESTS = sorted(
    {
        (name, path, test)
        for name, page in PAGES.items()
        for path, test in NAMED_TEST.findall(page.read_text(encoding="utf-8"))
    }
)
PATHS = words_like(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+")
SHORT_PATHS = words_like(
    "(?:"
    + "|".join(sorted(path.name for path in (ROOT / "routed").iterdir() if path.is_dir()))
    + r")/\w[\w/]*(?:\.py)?"
)
SOURCES = words_like(r"[\w/]+\.(?:py|pyi|c|h)")
MODULES = [
    (page, word)
    for page, word in words_like(r"(?:routed|routectl|ipc|tests)(?:\.\w+)+")
    if not NO_MODULES.match(word)
]
TEST_NAMES = words_like(r"test_\w+")
LINKS = sorted(
    {
        (name, link.split("#")[0])
        for name, page in PAGES.items()
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in link and not link.startswith("#")
    }
)


def test_there_is_something_to_look_for() -> None:
    assert len(TESTS) > 60
    assert len(PATHS) > 100
    assert min(map(len, (SHORT_PATHS, SOURCES, MODULES, TEST_NAMES, LINKS))) > 2


@pytest.mark.parametrize(("page", "path", "test"), TESTS)
def test_a_named_test_is_there(page: str, path: str, test: str) -> None:
    file = ROOT / path
    assert file.is_file(), f"{page} names {path}"
    if test:
        assert test in defined_in(file), f"{page} names {test}"


def test_a_test_in_a_comment_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text('"""def test_a(): ..."""\n# def test_b(): ...\nasync def test_c(): ...\n')
    assert defined_in(file) == {"test_c"}


@pytest.mark.parametrize(("page", "path"), PATHS)
def test_a_named_path_is_there(page: str, path: str) -> None:
    assert is_there(ROOT / path), f"{page} names {path}"


@pytest.mark.parametrize(("page", "path"), SHORT_PATHS)
def test_a_path_below_routed_is_there(page: str, path: str) -> None:
    """`fib/imported` is short for `routed/fib/imported.py`."""
    assert is_there(ROOT / "routed" / path), f"{page} names {path}"


@pytest.mark.parametrize(("page", "name"), SOURCES)
def test_a_named_source_file_is_there(page: str, name: str) -> None:
    """A file that is named without its folder is somewhere in the tree."""
    folders = (ROOT / folder for folder in FOLDERS)
    found = (ROOT / name).is_file() or any(
        path.as_posix().endswith("/" + name)
        for folder in folders
        for path in folder.rglob(Path(name).name)
    )
    assert found or name == "setup.py", f"{page} names {name}"


@pytest.mark.parametrize(("page", "name"), MODULES)
def test_a_named_module_is_there(page: str, name: str) -> None:
    """A module, a C extension (built where a compiler is), or a name that a module defines."""
    parts = name.split(".")
    if parts[-1].startswith("_") and not parts[-1].startswith("__"):
        assert ROOT.joinpath(*parts[:-1], "native", parts[-1].removeprefix("_") + ".c").is_file()
        return
    module, attribute = name, ""
    if not is_there(ROOT.joinpath(*parts)):
        module, attribute = ".".join(parts[:-1]), parts[-1]
    assert is_there(ROOT.joinpath(*module.split("."))), f"{page} names {name}"
    if attribute:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        assert re.search(rf"\b{attribute}\b", text), f"{page} names {name}"


@pytest.mark.parametrize(("page", "name"), TEST_NAMES)
def test_a_test_that_is_named_without_its_file_is_there(page: str, name: str) -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    assert any(name in defined_in(path) for path in files), f"{page} names {name}"


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    assert (PAGES[page].parent / link).exists(), f"{page} links to {link}"


def test_the_index_has_every_page_and_the_readme_links_to_it() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"| [{page}]({page}) | " not in index} == set()
    assert "(docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_has_every_package(package: str) -> None:
    """One line of docs/architecture.md for each folder with code of ours."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert f"| `{package}` | " in page
