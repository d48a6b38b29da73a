"""What a SandboxExecutor has its guest run: applies one function to arguments from the host."""

import base64
import contextlib
import importlib
import linecache
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any

with contextlib.suppress(ImportError):  # only what is pickled by value needs it
    import cloudpickle  # type: ignore[import-untyped]  # noqa: F401 - now, before the first call

_FILE = "<submitted>"


def _hyperlight_apply(name: str, source: str, arguments: str) -> dict[str, Any]:
    """Apply the function of that name, or what `source` defines, to pickled arguments."""
    function = _defined(name, source) if source else _imported(name)
    args, kwargs = pickle.loads(base64.b64decode(arguments))  # noqa: S301 - of the host
    value = function(*args, **kwargs)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": base64.b64encode(value).decode()}
    return {"value": value}


def _imported(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found  # type: ignore[return-value]


def _defined(name: str, source: str) -> Callable[..., Any]:
    """The function called `name`, or the last one, of a source that sees what runs defined."""
    linecache.cache[_FILE] = (len(source), None, source.splitlines(keepends=True), _FILE)
    names = dict(globals())
    exec(compile(source, _FILE, "exec", dont_inherit=True), names)  # noqa: S102 - it is a sandbox
    if name:
        return names[name]  # type: ignore[no-any-return]
    functions = [
        value
        for value in names.values()
        if isinstance(value, FunctionType) and value.__code__.co_filename == _FILE
    ]
    if not functions:
        raise ValueError("the source defines no function")
    return max(functions, key=lambda function: function.__code__.co_firstlineno)
