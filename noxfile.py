"""Tests the wheels in environments of their own: core alone, core with each package, with all."""

from __future__ import annotations

import re
from pathlib import Path

import nox

ROOT = Path(__file__).parent
WHEELS = ROOT / "build" / "wheels"
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
# In the order of their names: files with few tests may be the longest, and are better not last.
TWO_PROCESSES = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")

nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = True


def install(session: nox.Session, folder: Path, *wheels: str) -> None:
    """Install a package's test requirements and the wheels, these anew even at an equal version."""
    project = nox.project.load_toml(folder / "pyproject.toml")
    tools = nox.project.dependency_groups(project, "test")
    session.install("pytest-xdist>=3.6", *tools, *wheels, silent=True)
    session.install("--force-reinstall", "--no-deps", *wheels, silent=True)


def build(session: nox.Session, folder: Path, to: Path, *options: str) -> None:
    """Build the distributions of one package."""
    session.run("uv", "build", "-q", *options, "--out-dir", str(to), str(folder), silent=True)


def wheel(name: str) -> str:
    """The path of a wheel that the `wheels` session built."""
    (path,) = WHEELS.glob(f"{name}-*.whl")
    return str(path)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build the wheel of every package; core's by way of its source distribution."""
    for old in WHEELS.glob("*.whl"):
        old.unlink()
    build(session, ROOT, WHEELS)
    for plugin in PLUGINS:
        build(session, ROOT / "plugins" / plugin, WHEELS, "--wheel")


@nox.session(requires=["wheels"])
def core(session: nox.Session) -> None:
    """Core with no plugin at all."""
    install(session, ROOT, wheel("hyperlight_core") + "[cli]")
    session.run("pytest", *TWO_PROCESSES, "tests/core", *session.posargs)


@nox.session(requires=["wheels"])
@nox.parametrize("plugin", [nox.param(name, id=name) for name in PLUGINS])
def plugin(session: nox.Session, plugin: str) -> None:
    """One plugin with core."""
    folder = ROOT / "plugins" / plugin
    project = nox.project.load_toml(folder / "pyproject.toml")["project"]
    needed = {re.split(r"[^\w-]", text)[0].replace("-", "_") for text in project["dependencies"]}
    others = [wheel(name) for name in PLUGINS if name in needed]
    install(session, folder, wheel("hyperlight_core"), wheel(plugin), *others)
    # Guests come in packages, too, and offer no host functions.
    conformance = "hyperlight" in project.get("entry-points", {})
    options = ["--hyperlight-conformance"] if conformance else []
    session.run("pytest", *TWO_PROCESSES, f"plugins/{plugin}/tests", *options, *session.posargs)


@nox.session(requires=["wheels"])
def everything(session: nox.Session) -> None:
    """Every package at once: each plugin conforms beside the others, and the command uses them."""
    install(session, ROOT, wheel("hyperlight_core") + "[cli]", *map(wheel, PLUGINS))
    for plugin in PLUGINS:
        project = nox.project.load_toml(ROOT / "plugins" / plugin / "pyproject.toml")
        session.install(*nox.project.dependency_groups(project, "test"), silent=True)
    # The plugins' tests are there for their configurations; alone, each has passed them already.
    chosen = "conformance.py or test_a_mount_is or test_a_tool_is"
    tests = [f"plugins/{plugin}/tests" for plugin in PLUGINS] + ["tests/test_command.py"]
    session.run("pytest", "--hyperlight-conformance", "-k", chosen, *tests, *session.posargs)


@nox.session(requires=["wheels"])
def third_party(session: nox.Session) -> None:
    """A plugin from outside the workspace, as a wheel, with core and the python guest."""
    folder = ROOT / "examples" / "third_party" / "acme-hl-sqlite"
    built = Path(session.create_tmp())
    for old in built.glob("*.whl"):
        old.unlink()
    build(session, folder, built, "--wheel")
    (own,) = built.glob("*.whl")
    install(session, folder, wheel("hyperlight_core"), wheel("hl_python"), str(own))
    session.chdir(folder)
    session.run("pytest", "--hyperlight-conformance", *session.posargs)
