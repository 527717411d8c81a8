"""What the package, the wheel and the container consist of, as far as it can be told without them.

`make debtest` builds the package and tries it in a bare Debian.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from routed.cli import main as routed_main
from routed.config.load import load_file, load_text
from routed.config.manual import manual_page
from routed.config.schema import OnExit

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
SCRIPTS = [
    PACKAGING / "build-deb.sh",
    PACKAGING / "try-deb.sh",
    *(PACKAGING / "debian" / name for name in ("postinst", "prerm", "postrm")),
]


def read(path: Path | str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))


def test_the_lock_file_has_the_packages_of_the_tests_each_with_a_hash() -> None:
    lock = read("packaging/requirements.lock")
    assert pins(lock) == pins(read("requirements.txt"))
    for entry in re.split(r"^(?=[\w-]+==)", lock, flags=re.MULTILINE)[1:]:
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)) >= 1, entry


def test_the_shipped_configuration_changes_nothing_on_a_host() -> None:
    config = load_file(PACKAGING / "routes.yaml")
    assert config.fib.on_exit is OnExit.KEEP
    for section in (
        config.interfaces, config.static, config.redistribute, config.learn, config.rules,
        config.summaries, config.keys,
    ):  # fmt: skip
        assert not section
    assert config.metrics.listen is None


def test_the_shipped_configuration_is_valid_with_all_its_examples() -> None:
    text = re.sub(r"^#(?=\w|  \S)", "", read("packaging/routes.yaml"), flags=re.MULTILINE)
    config = load_text(text, str(PACKAGING / "routes.yaml"))
    assert len(config.static) == 2
    assert config.redistribute
    assert config.interfaces


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_can_be_read_by_a_shell(path: Path) -> None:
    done = subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.stat().st_mode & 0o111


def test_all_files_of_the_package_and_of_the_wheel_exist() -> None:
    wheel = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["data-files"]
    patterns = [pattern for group in wheel.values() for pattern in group]
    patterns += re.findall(r"^put ([\w./-]+) ", read("packaging/build-deb.sh"), re.MULTILINE)
    assert len(patterns) > 20
    for pattern in patterns:
        assert list(ROOT.glob(pattern)), pattern


def test_package_and_wheel_have_the_same_files_of_the_system() -> None:
    wheel = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["data-files"]
    in_wheel = {pattern for group in wheel.values() for pattern in group}
    script = read("packaging/build-deb.sh")
    for path in in_wheel:
        assert path in script, f"the package lacks {path}"


def test_the_unit_of_the_package_starts_what_the_package_has() -> None:
    text = read("configs/routed.service").replace("/usr/local/bin/", "/usr/bin/")
    programs = set(re.findall(r"^Exec\w+=(\S+)", text, re.MULTILINE))
    assert programs == {"/usr/bin/routed", "/usr/bin/routectl"}
    assert "s,/usr/local/bin/,/usr/bin/," in read("packaging/build-deb.sh")


def test_containers_have_the_capabilities_of_the_unit() -> None:
    (line,) = re.findall(
        r"^CapabilityBoundingSet=(.+)$", read("configs/routed.service"), re.MULTILINE
    )
    wanted = {word.removeprefix("CAP_") for word in line.split()}
    compose = yaml.safe_load(read("packaging/container/compose.yaml"))["services"]["routed"]
    assert (set(compose["cap_add"]), compose["cap_drop"]) == (wanted, ["ALL"])
    pod = yaml.safe_load(read("packaging/container/daemonset.yaml"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert set(container["securityContext"]["capabilities"]["add"]) == wanted
    assert pod["hostNetwork"] is True


def test_each_path_that_the_containerfile_copies_is_made() -> None:
    text = read("packaging/container/Containerfile")
    assert re.findall(r"^COPY (\S+)", text, re.MULTILINE) == ["routed_*.deb"]
    assert "build/deb" in re.findall(r"^deb:.*\n(.*)$", read("Makefile"), re.MULTILINE)[0]


def test_the_manual_page_of_the_configuration_is_up_to_date() -> None:
    assert manual_page() == read("docs/routes.yaml.5"), "python -m routed.config.manual"


def test_the_manual_page_of_the_daemon_has_every_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        routed_main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    page = read("docs/routed.8").replace("\\", "")
    assert options
    assert {option for option in options if option not in page} == set()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("name", ["routed.8", "routes.yaml.5", "routectl.1"])
def test_the_manual_pages_render_without_warnings(name: str) -> None:
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tutf8", str(ROOT / "docs" / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
