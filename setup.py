"""What pyproject.toml cannot say: how the C helper and the library OS get into the package."""

from setuptools import setup

setup(
    cffi_modules=["vmm_c/build_vmm.py:ffibuilder"],
    # The extension uses the stable ABI of the oldest supported Python.
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
