"""The typed stub of the cffi binding says what the compiled binding is."""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import Any

import pytest

from hyperlight_core import _vmm

ffi: Any = _vmm.ffi
lib: Any = _vmm.lib

STUB = ast.parse((files("hyperlight_core") / "_vmm.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
#: The stub's class for each C type, as its docstring says: "`hl_vm *`."
C_TYPES = {ast.get_docstring(node): name for name, node in CLASSES.items()}


def fields(name: str) -> dict[str, str]:
    """The annotated attributes of a class of the stub."""
    return {
        ast.unparse(node.target): ast.unparse(node.annotation)
        for node in CLASSES[name].body
        if isinstance(node, ast.AnnAssign)
    }


def methods(name: str) -> dict[str, ast.FunctionDef]:
    """The methods of a class of the stub."""
    return {node.name: node for node in CLASSES[name].body if isinstance(node, ast.FunctionDef)}


def python_type(ctype: Any) -> str:
    """The stub's name for a C type."""
    if ctype.kind in ("primitive", "enum"):
        return "int"
    if ctype.kind == "void":
        return "None"
    item = ctype.item
    if item.kind == "pointer" or item.cname == "size_t":
        return f"Out[{python_type(item)}]"
    return C_TYPES.get(f"`{ctype.cname}`.", "CData")


def test_the_stub_names_every_function_and_constant() -> None:
    """Nothing is missing from the stub and nothing in it is made up."""
    assert set(methods("Lib")) | set(fields("Lib")) == set(dir(lib))


@pytest.mark.parametrize("name", sorted(methods("Lib")))
def test_a_function_has_the_parameters_and_result_of_c(name: str) -> None:
    """Parameter and result types agree; bytes are allowed where C only reads."""
    ctype = ffi.typeof(getattr(lib, name))
    method = methods("Lib")[name]
    annotations = [ast.unparse(p.annotation) for p in method.args.posonlyargs[1:] if p.annotation]
    assert [text.removesuffix(" | bytes") for text in annotations] == [
        python_type(argument) for argument in ctype.args
    ]
    assert method.returns is not None
    assert ast.unparse(method.returns) == python_type(ctype.result)


@pytest.mark.parametrize("struct", sorted(set(ffi.list_types()[1]) - set(ffi.list_types()[0])))
def test_a_struct_has_the_fields_of_c(struct: str) -> None:
    """Each struct of the interface has a class with its fields, all of them integers."""
    declared = fields(C_TYPES[f"`struct {struct} *`."])
    assert list(declared) == [name for name, _ in ffi.typeof(f"struct {struct}").fields]
    assert set(declared.values()) == {"int"}
