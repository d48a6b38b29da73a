#!/bin/sh
# What the emulated machine runs, in the checkout and with the environment that it was started from.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# QEMU raises neither #AC, nor #GP for a GS base that is not canonical; the processors do.
exec .venv/bin/pytest -q -s --tb=short --color=no -p no:cacheprovider -o timeout=300 \
    --deselect 'tests/core/test_hostile_code.py::test_an_instruction_that_is_forbidden[unaligned under alignment check]' \
    --deselect 'tests/core/test_hostile_code.py::test_an_instruction_that_is_forbidden[gs base that is not canonical]' \
    tests/core/test_vm.py tests/core/test_hostile_code.py tests/amdv/guests.py
