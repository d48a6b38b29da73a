"""The `hyperlight` command; its libraries come with the extra `cli` and are imported on use."""

from __future__ import annotations

import importlib.util
import sys
from typing import NoReturn

__all__ = ["main"]

_NEEDED = ("click", "rich")


def main() -> NoReturn:
    """Run the command with the arguments of this process, and end it with the command's status."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(  # noqa: T201 - click is what is missing
            f"hyperlight: {' and '.join(missing)} not installed;"
            " to mend it: pip install 'hyperlight-core[cli]'",
            file=sys.stderr,
        )
        sys.exit(125)
    from hyperlight_core.cli.app import run_command  # noqa: PLC0415 - needs the extra

    sys.exit(run_command(sys.argv[1:]))
