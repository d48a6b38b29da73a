"""Makes the .pyc files of an image: relocated, and never to be checked or written by the guest."""

from __future__ import annotations

import importlib.util
import marshal
import sys
import warnings
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

__all__ = ["bytecode", "cache_name"]

#: PEP 552: a hash-based file whose hash is not compared with the source.
_UNCHECKED_HASH = (0b01).to_bytes(4, "little")


class _ReadingLoader(SourceFileLoader):
    """Takes the host's cached bytecode where it is up to date, but leaves no new one behind."""

    def set_data(self, *_: object, **__: object) -> None:
        pass


def cache_name(name: str) -> str:
    """The name of the .pyc file that belongs to the module file `name` of an image."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/__pycache__/{file[:-3]}.{sys.implementation.cache_tag}.pyc"


def bytecode(name: str, source: bytes, path: Path | None) -> bytes | None:
    """The content of a .pyc file, or None where `source` does not compile.

    Args:
        name: the module file in the image, without a leading slash; tracebacks will show it.
        source: what is in the file.
        path: the same source on the host, whose cached bytecode may be used; None for no such file.
    """
    try:
        code = _code(name, source, path)
    except (SyntaxError, ValueError):
        return None
    digest = importlib.util.source_hash(source)
    data = marshal.dumps(_relocated(code, "/" + name))
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + digest + data


def _code(name: str, source: bytes, path: Path | None) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd in the modules is not our user's business
        # Under -O the cached bytecode lacks the assertions, which the guest is to have.
        if path is not None and not sys.flags.optimize:
            code = _ReadingLoader(name, str(path)).get_code(name)
            if code is not None:
                return code
        return compile(source, "/" + name, "exec", dont_inherit=True, optimize=0)


def _relocated(code: CodeType, filename: str) -> CodeType:
    constants = tuple(
        _relocated(constant, filename) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)
