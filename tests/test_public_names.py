"""Every public function and method has the types of its parameters and of what it returns."""

import ast
import pathlib

import pytest

import invnet

ROOT = pathlib.Path(invnet.__file__).parent
#: What is nobody's interface: engines, fusion and what passes leave, how the bridge to PyTorch is built, the command
#: line, the benchmarks' twin, and old names.
INTERNAL = ("ops/", "fused/", "passes/", "bench/", "cli/", "deprecated.py", "files_0_1.py") + tuple(
    f"torch/{name}.py" for name in ("randomness", "recording", "share", "tensors", "through", "tree")
)
FILES = [
    path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.rglob("*.py"))
    if not path.relative_to(ROOT).as_posix().startswith(INTERNAL)
]


def untyped(tree):
    """Names of public functions and methods that lack the type of a parameter or of their result."""
    found = []

    def visit(body, names=()):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                visit(node.body, (*names, node.name))
            elif isinstance(node, ast.FunctionDef) and (
                not node.name.startswith("_") or node.name in ("__init__", "__call__")
            ):
                a, static = node.args, any(getattr(d, "id", "") == "staticmethod" for d in node.decorator_list)
                taken = [*a.posonlyargs, *a.args][1 if names and not static else 0 :]
                taken += [*a.kwonlyargs, *(each for each in (a.vararg, a.kwarg) if each is not None)]
                without = [each.arg for each in taken if each.annotation is None]
                if node.returns is None and node.name != "__init__":
                    without.append("return")
                if without:
                    found.append(f"{'.'.join((*names, node.name))}: {', '.join(without)}")

    visit(tree.body)
    return found


@pytest.mark.parametrize("path", FILES)
def test_public_names_have_types(path):
    assert not untyped(ast.parse((ROOT / path).read_text()))


def test_a_name_without_types_is_found():
    source = "class A:\n    def f(self, x, *y: int): pass\ndef g(x: int) -> int: pass\ndef _h(x): pass"
    assert untyped(ast.parse(source)) == ["A.f: x, return"]


def test_what_is_exported_is_there():
    assert all(hasattr(invnet, name) for name in invnet.__all__)
