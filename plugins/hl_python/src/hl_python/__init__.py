"""The `python` guest of hyperlight: the host's own interpreter and packages in a micro-VM."""

from hl_python.guest import PythonConfiguration, PythonGuest

__all__ = ["PythonConfiguration", "PythonGuest"]
