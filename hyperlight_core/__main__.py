"""`python -m hyperlight_core` is the `hyperlight` command."""

from hyperlight_core.cli import main

if __name__ == "__main__":
    main()
