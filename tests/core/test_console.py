"""Console output belongs to the call that printed it, whatever is restored or cloned."""

from __future__ import annotations

import pytest

from hyperlight_core.pytest_plugin import BuildGuest, MakeSandbox

pytestmark = pytest.mark.kvm

SOURCE = """
#include "hl_guest.h"
static void quiet(struct hl_request *request) { (void)request; }
static void loud(struct hl_request *request) { (void)request; hl_print("loud"); }
const struct hl_method hl_methods[] = {{"quiet", quiet}, {"loud", loud}, {0}};
"""


def test_a_clone_does_not_repeat_what_was_printed_before_it(
    build_guest: BuildGuest, sandbox: MakeSandbox
) -> None:
    original = sandbox(build_guest(SOURCE), memory="16MiB")
    assert original._state.call("loud").stdout == b"loud"
    taken = original.snapshot()
    with original.clone() as twin:
        assert twin._state.call("quiet").stdout == b""
    original.restore(taken)
    assert original._state.call("quiet").stdout == b""
