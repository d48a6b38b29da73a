"""Bytecode for an image: relocated, unchecked, from the host's cache where it is valid."""

import importlib.util
import marshal
import py_compile
from pathlib import Path
from types import CodeType, ModuleType

from hl_python.bytecode import bytecode, cache_name

SOURCE = b"def f():\n    def g():\n        return 'fresh'\n    return g()\n"
NAME = "usr/lib/m.py"


def load(data: bytes) -> CodeType:
    """What is behind the header of PEP 552, checked."""
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == 0b01
    assert data[8:16] == importlib.util.source_hash(SOURCE)
    code = marshal.loads(data[16:])  # noqa: S302 - made by the function under test
    assert isinstance(code, CodeType)
    return code


def file_names(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {code.co_filename}.union(*map(file_names, inner))


def value(code: CodeType) -> object:
    module = ModuleType("m")
    exec(code, vars(module))  # noqa: S102 - the bytecode under test
    return module.f()


def test_every_function_names_the_file_in_the_image(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_bytes(SOURCE)
    data = bytecode(NAME, SOURCE, path)
    assert data is not None
    assert file_names(load(data)) == {f"/{NAME}"}
    assert value(load(data)) == "fresh"


def test_nothing_is_written_beside_the_source(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_bytes(SOURCE)
    bytecode(NAME, SOURCE, path)
    assert list(tmp_path.iterdir()) == [path]


def test_outdated_bytecode_of_the_host_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_bytes(SOURCE.replace(b"fresh", b"outdated"))
    py_compile.compile(str(path), doraise=True)
    path.write_bytes(SOURCE)
    data = bytecode(NAME, SOURCE, path)
    assert data is not None
    assert value(load(data)) == "fresh"


def test_what_does_not_compile_has_no_bytecode() -> None:
    assert bytecode(NAME, b"print 'two'\n", None) is None
    assert bytecode(NAME, b"\xff\xfe", None) is None


def test_the_file_is_where_the_interpreter_looks() -> None:
    assert "/" + cache_name(NAME) == importlib.util.cache_from_source(f"/{NAME}", optimization="")
