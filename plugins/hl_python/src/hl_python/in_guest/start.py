# ruff: noqa: INP001 - a program, in no package
"""The program the guest's interpreter runs: start.py [--descriptors SERVE CALL] [MODULE...].

MODULEs are imported before the first request, so that they are part of every snapshot.
"""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # until all is imported, which is kept
    from importlib import import_module
    from site import addsitedir

    library = (
        f"{sys.base_prefix}/{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}"
    )
    # Debian's interpreters do not look there by themselves.
    sys.path[:] = [path for path in sys.path if "-packages" not in path]
    addsitedir(f"{library}/site-packages")
    import_module("hyperlight._driver").main(sys.argv[1:])
