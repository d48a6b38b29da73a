"""Debugging of guests: crash reports, core files, gdb; imported only where it is asked for."""
