"""Micro-VMs in processes of their own, which may do next to nothing besides."""

from hyperlight_core.isolation.isolated_vm import IsolatedSnapshot, IsolatedVm

__all__ = ["IsolatedSnapshot", "IsolatedVm"]
