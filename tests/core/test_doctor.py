"""`doctor` sees what would keep a sandbox from starting."""

from __future__ import annotations

from pathlib import Path

import importlib_metadata
import pytest

from hyperlight_core import doctor
from hyperlight_core.plugins import InstalledPlugin


def plugin(value: str) -> InstalledPlugin:
    """A plugin whose entry point is `value`."""
    point = importlib_metadata.EntryPoint("broken", value, "hyperlight")
    return InstalledPlugin("broken", "acme-broken", "1.0", point)


@pytest.mark.kvm
def test_every_check_passes_where_the_tests_run() -> None:
    assert [str(check) for check in doctor.examine() if not check.ok] == []


def test_checks_have_names_of_their_own() -> None:
    names = [check.name for check in doctor.examine()]
    assert len(names) == len(set(names))


def test_an_installation_without_the_library_os(tmp_path: Path) -> None:
    check = doctor.check_libos(tmp_path / "libos.elf")
    assert (check.ok, check.required) == (False, True)
    assert "pip install --force-reinstall hyperlight-core" in str(check)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = doctor.check_cache(tmp_path / "file" / "images")
    assert not check.ok
    assert "XDG_CACHE_HOME" in check.remedy


def test_a_plugin_that_cannot_be_imported() -> None:
    """It is named with its distribution, and sandboxes without it still work."""
    check = doctor.check_plugin(plugin("no_such_module:Plugin"))
    assert (check.ok, check.required) == (False, False)
    assert "acme-broken 1.0" in check.detail
    assert check.remedy == "pip install --force-reinstall acme-broken"


def test_a_plugin_whose_entry_point_is_no_plugin_class() -> None:
    assert "json:dumps has no `configuration`" in doctor.check_plugin(plugin("json:dumps")).detail


@pytest.mark.parametrize("flag", ["vmx", "svm", "cpuid_fault"])
def test_a_processor_whose_cpuid_can_be_hidden(flag: str) -> None:
    cpuinfo = f"processor\t: 0\nflags\t\t: fpu {flag} avx\nbugs\t\t: none\n"
    assert doctor.hides_cpuid(cpuinfo)
    assert "what they have a use for" in doctor.check_cpuid(cpuinfo).detail


def test_a_processor_whose_cpuid_cannot_be_hidden() -> None:
    """It is said, and keeps no sandbox from starting."""
    check = doctor.check_cpuid("flags\t\t: fpu avx\nbugs\t\t: svm\n")
    assert check.ok
    assert "guests see all" in check.detail
