"""Finding installed distributions: real metadata, written by the test."""

import json
from pathlib import Path
from typing import Protocol

import pytest
from hl_python.distributions import distribution_files, fingerprint, resolve

from hyperlight_core.errors import ConfigurationError


class Install(Protocol):
    def __call__(
        self, name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), **files: str
    ) -> Path: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution into a folder on the path, as PEP 376 and PEP 566 lay it out."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(
        name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), **files: str
    ) -> Path:
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        extras = {"Provides-Extra: more"}
        text = "\n".join([*lines, *extras, *(f"Requires-Dist: {need}" for need in requires), ""])
        (info / "METADATA").write_text(text)
        module = tmp_path / f"{name}.py"
        module.write_text("")
        for file, content in files.items():
            (info / file.replace("_json", ".json")).write_text(content)
        record = [f"{name}.py,,", "../../bin/tool,,", f"__pycache__/{name}.pyc,,", "gone.py,,"]
        names = [f"{info.name}/{path.name},," for path in info.iterdir()]
        (info / "RECORD").write_text("\n".join([*record, *names, ""]))
        return info

    return write


def names(requirements: list[str]) -> list[str]:
    return [found.metadata["Name"] for found in resolve(requirements)]


def test_requirements_are_followed(install: Install) -> None:
    install("hl_a", requires=("hl_b>=1", "hl-c; python_version>='3'"))
    install("hl_b", requires=("hl_a",))
    install("hl_c")
    assert names(["HL.A"]) == ["hl_a", "hl_b", "hl_c"]


def test_markers_that_do_not_hold_are_left_out(install: Install) -> None:
    install("hl_a", requires=("hl_missing; sys_platform == 'win32'",))
    assert names(["hl_a"]) == ["hl_a"]


def test_extras_are_followed_when_asked_for(install: Install) -> None:
    install("hl_a", requires=("hl_b; extra == 'more'",))
    install("hl_b")
    assert names(["hl_a"]) == ["hl_a"]
    assert names(["hl_a[more]"]) == ["hl_a", "hl_b"]
    assert names(["hl_a", "hl_a[more]"]) == ["hl_a", "hl_b"]


def test_a_package_that_is_not_installed_comes_with_the_command() -> None:
    with pytest.raises(ConfigurationError, match=r"-m pip install 'hl-nowhere>=2'") as caught:
        resolve(["hl-nowhere>=2"])
    assert "'hl-nowhere' is not installed" in str(caught.value)


def test_a_missing_requirement_names_who_needs_it(install: Install) -> None:
    install("hl_a", requires=("hl_nowhere",))
    with pytest.raises(ConfigurationError, match="which hl-a requires"):
        resolve(["hl_a"])


def test_another_version_than_asked_for_is_an_error(install: Install) -> None:
    install("hl_a", "1.5")
    assert names(["hl_a>=1"]) == ["hl_a"]
    with pytest.raises(ConfigurationError, match=r"installed as 1\.5, but >=2 is asked for"):
        resolve(["hl_a>=2"])


@pytest.mark.parametrize("text", ["", "two words", "../etc", "a==x"])
def test_what_is_no_requirement_is_an_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="does not name a package"):
        resolve([text])


def test_files_outside_site_packages_bytecode_and_lost_ones_are_left_out(install: Install) -> None:
    info = install("hl_a", direct_url_json=json.dumps({"url": "file:///secret"}))
    (found,) = resolve(["hl_a"])
    files = dict(distribution_files(found))
    assert set(files) == {"hl_a.py", f"{info.name}/METADATA"}
    assert files["hl_a.py"] == info.parent / "hl_a.py"


def test_an_editable_installation_is_refused(install: Install) -> None:
    install("hl_a", direct_url_json=json.dumps({"dir_info": {"editable": True}}))
    (found,) = resolve(["hl_a"])
    with pytest.raises(ConfigurationError, match="editable"):
        list(distribution_files(found))


def test_an_installation_without_a_list_of_files_is_refused(install: Install) -> None:
    (install("hl_a") / "RECORD").unlink()
    (found,) = resolve(["hl_a"])
    with pytest.raises(ConfigurationError, match="without a list of its files"):
        list(distribution_files(found))


def test_the_fingerprint_follows_the_recorded_hashes(install: Install) -> None:
    info = install("hl_a")
    (found,) = resolve(["hl_a"])
    before = fingerprint(found)
    assert fingerprint(found) == before
    (info / "RECORD").write_text("hl_a.py,sha256=x,1\n")
    assert fingerprint(found) != before
