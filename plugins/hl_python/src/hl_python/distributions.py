"""Finds the named distributions and what they require among those installed on the host."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from json import loads
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hyperlight_core.errors import ConfigurationError

__all__ = ["distribution_files", "fingerprint", "resolve"]


def resolve(requirements: Iterable[str]) -> list[Distribution]:
    """The distributions that satisfy `requirements`, and those that they require in turn.

    Raises:
        ConfigurationError: a requirement is malformed, or what is installed does not satisfy it.
    """
    queue = [(_parse(text), "") for text in requirements]
    found: dict[str, Distribution] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    while queue:
        requirement, asker = queue.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        found[name] = found.get(name) or _installed(requirement, asker)
        _check_version(requirement, found[name], asker)
        if (name, extras) not in done:
            done.add((name, extras))
            queue += [(needed, name) for needed in _requirements(found[name], extras)]
    return [found[name] for name in sorted(found)]


def _parse(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigurationError(f"{text!r} does not name a package: {error}") from error


def _requirements(installed: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in installed.requires or ():
        requirement = _parse(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def _installed(requirement: Requirement, asker: str) -> Distribution:
    try:
        return distribution(requirement.name)
    except PackageNotFoundError:
        raise ConfigurationError(_advice(requirement, asker, "is not installed")) from None


def _check_version(requirement: Requirement, installed: Distribution, asker: str) -> None:
    if not requirement.specifier.contains(installed.version, prereleases=True):
        fact = f"is installed as {installed.version}, but {requirement.specifier} is asked for"
        raise ConfigurationError(_advice(requirement, asker, fact))


def _advice(requirement: Requirement, asker: str, fact: str) -> str:
    reason = f" (which {asker} requires)" if asker else ""
    wanted = f"'{requirement.name}{requirement.specifier}'"
    return (
        f"the Python package {requirement.name!r}{reason} {fact};"
        f" install it with: {sys.executable} -m pip install {wanted}"
    )


def fingerprint(installed: Distribution) -> str:
    """What names the content of a distribution: where it is, and the hashes of its files.

    Files changed by hand after the installation go unnoticed.
    """
    return f"{installed.locate_file('')} {installed.version} {installed.read_text('RECORD')}"


def distribution_files(installed: Distribution) -> Iterator[tuple[str, Path]]:
    """Where every file of a distribution lies below site-packages, and on the host.

    Left out are scripts and data outside site-packages, bytecode, and where it was installed from.

    Raises:
        ConfigurationError: the distribution does not know its files, or is an editable one.
    """
    name = installed.metadata["Name"]
    if loads(installed.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"):
        raise ConfigurationError(
            f"the Python package {name!r} is installed in editable mode, which leaves its files"
            f" where they are; install it with: {sys.executable} -m pip install <its folder>"
        )
    if installed.files is None:
        raise ConfigurationError(
            f"the Python package {name!r} was installed without a list of its files, as a system's"
            " package manager does; install it with pip, in a virtual environment"
        )
    for file in installed.files:
        path = Path(str(installed.locate_file(file)))
        unwanted = ".." in file.parts or file.suffix == ".pyc" or file.name == "direct_url.json"
        if not unwanted and path.is_file():
            yield file.as_posix(), path
