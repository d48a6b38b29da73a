"""What can keep a sandbox from starting on this machine, and how to mend it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from hyperlight_core.image import image_directory
from hyperlight_core.plugins import InstalledPlugin, installed_plugins
from hyperlight_core.prerequisites import Check, build_checks, run_checks

__all__ = ["Check", "examine", "hides_cpuid"]

#: Flags of /proc/cpuinfo: hardware virtualisation leaves at each `cpuid`; KVM without it must have
#: the processor fault on them, arch_prctl(2), ARCH_SET_CPUID.
_CPUID_LEAVES = {"vmx", "svm", "cpuid_fault"}


def examine() -> list[Check]:
    """Every check: what running needs first, then what only building from source needs."""
    return [*run_checks(), *_package_checks(), *build_checks()]


def _package_checks() -> Iterator[Check]:
    yield check_helper()
    yield check_cpuid(Path("/proc/cpuinfo").read_text(encoding="ascii"))
    yield check_libos(Path(str(files("hyperlight_core") / "guests" / "libos.elf")))
    yield check_cache(image_directory())
    for plugin in installed_plugins():
        yield check_plugin(plugin)


def check_helper() -> Check:
    """The C helper loads, and this machine's KVM has what it needs."""
    name = "kvm features"
    try:
        from hyperlight_core._vmm import lib  # noqa: PLC0415 - the import is the check
        from hyperlight_core.helper import error_text  # noqa: PLC0415
    except ImportError as error:
        return _broken(name, f"the C helper does not load: {error}")
    if lib.hl_probe() == 0:
        return Check(name, True, "all there", required=True)
    return Check(name, False, error_text(), "use a kernel and a KVM that offer it", required=True)


def hides_cpuid(cpuinfo: str) -> bool:
    """Whether `cpuid` in a guest shows what the helper lets through, and not what it shows here.

    Args:
        cpuinfo: proc_cpuinfo(5).
    """
    flags = re.search(r"^flags\s*:(.*)", cpuinfo, re.MULTILINE)
    return flags is not None and not _CPUID_LEAVES.isdisjoint(flags[1].split())


def check_cpuid(cpuinfo: str) -> Check:
    """What guests see of the processor: nothing that can be mended, but good to know."""
    if hides_cpuid(cpuinfo):
        return Check("cpuid", True, "guests see what they have a use for")
    return Check("cpuid", True, "guests see all: this processor lets no `cpuid` of ring 3 fault")


def check_libos(path: Path) -> Check:
    """The library OS came with the package."""
    if path.is_file():
        return Check("library OS", True, str(path), required=True)
    return _broken("library OS", f"there is no {path}")


def check_cache(directory: Path) -> Check:
    """Images can be cached."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return Check("cache", True, str(directory), required=True)
    except OSError as error:
        detail = f"{directory} cannot be written: {os.strerror(error.errno or 0)}"
        remedy = "make it writable, or set XDG_CACHE_HOME to a folder that is"
        return Check("cache", False, detail, remedy, required=True)


def check_plugin(plugin: InstalledPlugin) -> Check:
    """An installed plugin can be imported."""
    name = f"plugin {plugin.name}"
    problem = plugin.problem()
    if problem is None:
        return Check(name, True, f"{plugin.distribution} {plugin.version}")
    remedy = f"pip install --force-reinstall {plugin.distribution}"
    return Check(name, False, str(problem), remedy)


def _broken(name: str, detail: str) -> Check:
    remedy = "pip install --force-reinstall hyperlight-core"
    return Check(name, False, detail, remedy, required=True)
