"""Mutants: copies of the hand-written backward functions, each with one term broken.

`mutants(target)` makes them from the syntax tree of a function: a sign is flipped, or a factor, a transpose or an addend
is left out. A mutant is found if the comparison with autograd (test_against_torch.py) fails for a case that exercises
the function, or on another engine a law of gradients. EQUIVALENT lists the mutants that change nothing, each with its
reason.

tests/mutants_baseline.json holds a digest of every function of which all mutants were found. `make test` runs the
mutants of functions that have changed since, `make test-all` runs all. After a change:

    python tests/mutants.py                 # runs the mutants of what has changed and prints those that were not found
    python tests/mutants.py --write         # and writes the digests of functions of which all were found
    python tests/mutants.py --all TEXT      # of all functions whose name contains TEXT, changed or not

A function within another is named by both: `ActNorm.affine.pullback`.
"""

import argparse
import ast
import collections
import contextlib
import copy
import functools
import hashlib
import importlib
import inspect
import json
import pathlib
import pkgutil
import re
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass

import array_api_compat.numpy
import numpy as np
import pytest
import test_against_torch as against_torch
from cases import LAYERS as CASES_OF_LAWS
from engines import ENGINES, cupy_here
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from test_against_torch import affine, f64, shape, staircase
from test_against_torch import spline as spline_coupling
from twins import assert_same, by_autograd, by_hand, randomised

import invnet
from invnet import ActNorm, Chain, Conv1x1, ConvNet, DenseNet, Permute, Planar, Radial
from invnet.fused import vector_plan
from invnet.ops import _of_type
from invnet.ops.numpy import conv_stack, fused_images, fused_vectors
from invnet.ops.numpy.kernels.convolutions import plan
from invnet.ops.numpy.kernels.simple import TYPES
from invnet.ops.reference import Ops
from invnet.passes import BackwardPolicy
from invnet.testing import backward_rebuilds_the_input, gradients_are_those_of_differences

BASELINE = pathlib.Path(__file__).with_name("mutants_baseline.json")

ENGINE, REFERENCE, TORCH, CUPY = (f"invnet.ops.{name}" for name in ("numpy", "reference", "torch", "cupy"))
KERNELS = f"{ENGINE}.kernels"

# ---- the functions


@functools.cache
def tree_of(module):
    return ast.parse(inspect.getsource(importlib.import_module(module)))


@functools.cache
def functions(module):
    """The syntax tree of every function in a module by its name: Class.method, Class.method.inner."""
    found = {}

    def visit(node, names):
        for child in ast.iter_child_nodes(node):
            inside = names
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                inside = (*names, child.name)
                found[".".join(inside)] = child
            visit(child, inside)

    visit(tree_of(module), ())
    return found


#: Names of functions that are part of a backward pass.
BACKWARD = re.compile(
    r"(backward_?|pullback|vjp_?|scale_slope|product_of_transpose|sum_rows|sums_of_products|gradients_of_units|add_first"
    r"|sum_taps|pad|find_taps|lattice|right_factor|take_gradient|evaluate|interpolate|unapply"
    r"|_spline_derivatives|_spline_gradient)$"
)
#: Functions that serve gradients under another name.
OTHERS = [
    "invnet.core.gradients:as_dlogdet",
    "invnet.core.parameters:Condition.add",
    "invnet.losses:gaussian_nll",
    "invnet.layers.conditioned:Conditioned._add",
    "invnet.layers.conditioned:Conditioned._outliving",
    f"{KERNELS}.fused_images:through",
]


def modules():
    """The modules in which backward functions are written by hand."""
    packages = [invnet.layers, importlib.import_module("invnet.layers.transforms"), invnet.nets]
    packages += [importlib.import_module(name) for name in (REFERENCE, ENGINE, KERNELS, TORCH)]
    found = ["invnet.core.layer", "invnet.fused.group", TORCH]
    for package in packages:
        found += [
            f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__) if not info.ispkg
        ]
    if cupy_here:
        found += [f"{CUPY}.{part}" for part in ("channels", "conv_stack", "couplings", "pointwise")]
    return found


#: Modules that hold no formula of a gradient: they hand on, record or measure.
WITHOUT = {f"{TORCH}.{name}" for name in ("by_cupy", "recording", "precision")}


def targets():
    """The names of all hand-written backward functions, `module:function`."""
    found = [
        f"{module}:{path}"
        for module in modules()
        if module not in WITHOUT
        for path, node in functions(module).items()
        if isinstance(node, ast.FunctionDef) and BACKWARD.search(path) and not _is_abstract(node)
    ]
    return list(dict.fromkeys(found + OTHERS))


def _is_abstract(node):
    return any(isinstance(each, ast.Raise) and "NotImplementedError" in ast.unparse(each) for each in node.body)


def node_of(target):
    module, _, path = target.partition(":")
    return functions(module)[path]


def digest(target):
    """A number that changes with the code of a function, not with its comments, line breaks or types."""
    node = copy.deepcopy(node_of(target))
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef):
            each.returns = None
        elif isinstance(each, ast.arg):
            each.annotation = None
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:12]


def baseline():
    return json.loads(BASELINE.read_text()) if BASELINE.exists() else {}


def changed_targets():
    """The functions that differ from the baseline."""
    known = baseline()
    return [target for target in targets() if known.get(target) != digest(target)]


# ---- the mutants


@dataclass(frozen=True)
class Mutant:
    target: str
    kind: str  # "sign", "factor", "transpose" or "addend"
    change: str  # what stands in place of what; a number tells two of the same from each other

    @property
    def name(self):
        return f"{self.target.partition(':')[2]}: {self.change}"


#: Names that hold a gradient.
GRADIENT = re.compile(r"^(d[A-Z]\w*|d[hxyuvtswb]\d?|dlogdet|dcond|draw|dshift|dlog_\w+|dl|dbeta|gradient|G)$")
#: Calls that look at an array and do not compute with its numbers.
CHECKS = re.compile(r"_?check|get_ops|getattr|len$|is_number|same_engine|rows$|empty|scratch|zeros|full")
#: Calls that make what they are given smaller or larger, but no numbers: sizes and ranges are no terms.
SIZES = {
    "range",
    "len",
    "reshape",
    "empty",
    "zeros",
    "full",
    "range_",
    "slice",
    "tiles",
    "islice",
    "enumerate",
    "rounded",
}
TRANSPOSES = {"_transpose", "permute_dims", "transpose", "swapaxes", "movedim", "permute"}
#: Neighbouring arguments of compiled products that, exchanged, take a matrix for its transpose.
STRIDES = [{"ONE", "C"}, {"ONE", "k"}, {"steps", "ones"}]
#: In compiled functions: arrays of integers, and numbers that are not.
INTEGERS = set(
    [
        "scratch",
        "t",
        "h",
        "net",
        "after",
        "index",
        "places",
        "layout",
        "offsets",
        "starts",
        "tables",
        "table",
        "layers",
        "addresses",
        "order",
        "parts",
        "rows",
        "columns",
        "steps",
        "ones",
        "outputs",
        "weights",
        "shape",
        "size",
        "strides",
        "states",
        "grads",
    ]
)
FLOATS = {"sign", "a", "total", "dlogdet", "logdet", "least", "bound", "slope", "half", "one", "two", "zero", "alpha"}


def mutants(target):
    """All mutants of a function: [(Mutant, syntax tree of the broken function)]."""
    node = node_of(target)
    in_kernel = target.startswith(f"{KERNELS}.")
    floats = _floats(node) if in_kernel else None
    found, seen = [], {}
    for at, kind, new in _changes(node, target, floats):
        before, after = ast.unparse(at), "nothing" if new is None else ast.unparse(new)
        change = f"{before} -> {after}"
        seen[change] = seen.get(change, 0) + 1
        if seen[change] > 1:
            change = f"{change} #{seen[change]}"
        found.append((Mutant(target, kind, change), at, new))
    return found


def _floats(function):
    """The names in a compiled function that hold floats, as far as its assignments tell."""
    names = set(FLOATS)
    while True:
        before = len(names)
        for node in ast.walk(function):
            pairs = []
            if isinstance(node, ast.Assign):
                for goal in node.targets:
                    values = [node.value]
                    if isinstance(goal, ast.Tuple):
                        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(goal.elts)
                    pairs += list(zip(goal.elts if isinstance(goal, ast.Tuple) else [goal], values, strict=False))
            for goal, value in pairs:
                if isinstance(goal, ast.Name) and _is_float(value, names):
                    names.add(goal.id)
        if len(names) == before:
            return names


def _is_float(node, names):
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float)
    if isinstance(node, ast.Subscript):
        base = node.value
        return isinstance(base, ast.Name) and base.id not in INTEGERS and not isinstance(node.slice, ast.Slice)
    if isinstance(node, ast.BinOp):
        return _is_float(node.left, names) or _is_float(node.right, names)
    if isinstance(node, ast.UnaryOp):
        return _is_float(node.operand, names)
    if isinstance(node, ast.IfExp):
        return _is_float(node.body, names) or _is_float(node.orelse, names)
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called.startswith("math."):
            return True
        return called in ("abs", "min", "max", "dot") and any(_is_float(each, names) for each in node.args)
    return False


#: Of an expression in a compiled function that says where in an array something lies.
OFFSET = "offset"


def _changes(function, target, floats):
    """What may be put in place of what: (node, kind, new node, or None for a statement that is left out)."""
    module, _, path = target.partition(":")
    others = {f"{module}:{name}" for name in functions(module)}

    def is_another(node):  # a function within, which is a target itself
        return (
            isinstance(node, ast.FunctionDef)
            and node is not function
            and any(functions(module)[name.partition(":")[2]] is node and BACKWARD.search(name) for name in others)
        )

    def visit(node, is_index):
        if is_another(node) or isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.arguments, ast.Compare)):
            return
        if isinstance(node, ast.Subscript):
            yield from visit(node.value, is_index)
            if floats is not None:
                yield from visit(node.slice, OFFSET)
            return
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in SIZES:
                is_index = True
            elif floats is not None and is_index is not True:
                is_index = OFFSET
            if called in TRANSPOSES and node.args and floats is None:
                yield node, "transpose", node.args[0]
            for each in node.args:
                if isinstance(each, ast.UnaryOp) and isinstance(each.op, ast.Not):
                    yield each, "sign", each.operand
            if floats is not None:
                for first, second in zip(node.args, node.args[1:], strict=False):
                    if {ast.unparse(first), ast.unparse(second)} in STRIDES and called in ("times", "mix"):
                        args = [second if each is first else first if each is second else each for each in node.args]
                        yield node, "transpose", ast.Call(node.func, args, node.keywords)
            if floats is None:
                for each in node.args:
                    name = (
                        each.func.value if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) else each
                    )
                    if isinstance(name, ast.Name) and GRADIENT.match(name.id) and not CHECKS.match(called):
                        yield each, "sign", _negative(each)
        yield from here(node, is_index)
        for name, value in ast.iter_fields(node):
            if name in ("test", "ifs", "decorator_list", "annotation", "ctx", "targets", "target"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from visit(child, is_index)

    def numbers(node, is_index):
        if floats is None:
            return not is_index
        return is_index is not True and _is_float(node, floats)

    def here(node, is_index):
        if isinstance(node, ast.Attribute) and node.attr == "T" and not is_index:
            yield node, "transpose", node.value
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and numbers(node, is_index):
            if not isinstance(node.operand, ast.Constant):
                yield node, "sign", node.operand
        elif isinstance(node, ast.BinOp):
            yield from of_operation(node, numbers(node, is_index), is_index is OFFSET)
        elif isinstance(node, ast.AugAssign) and numbers_of_statement(node):
            if isinstance(node.op, (ast.Add, ast.Sub)):
                other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
                yield node, "sign", ast.AugAssign(node.target, other, node.value)
                yield node, "addend", None
                value = node.value if isinstance(node.op, ast.Add) else _negative(node.value)
                if isinstance(node.target, ast.Subscript):
                    yield node, "addend", ast.Assign([node.target], value, lineno=node.lineno)
                elif floats is None:  # of an array
                    whole = ast.Subscript(node.target, ast.Constant(...), ast.Store())
                    yield node, "addend", ast.Assign([whole], value, lineno=node.lineno)
            elif isinstance(node.op, (ast.Mult, ast.Div)):
                yield node, "factor", None
        elif isinstance(node, ast.Assign):
            for goal, value in _pairs(node):
                if _has_sign(value):
                    continue
                if floats is None and isinstance(goal, (ast.Name, ast.Subscript)) and GRADIENT.match(_base(goal)):
                    yield value, "sign", _negative(value)
                if floats is not None and isinstance(goal, ast.Subscript) and _base(goal) not in INTEGERS:
                    if not isinstance(value, ast.Constant):
                        yield value, "sign", _negative(value)
        elif isinstance(node, ast.Return) and node.value is not None and floats is None:
            for value in node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]:
                if isinstance(value, (ast.Name, ast.BinOp, ast.Subscript)) and not _has_sign(value):
                    yield value, "sign", _negative(value)

    def numbers_of_statement(node):
        if floats is None:
            return not isinstance(node.value, (ast.List, ast.Tuple)) and _base(node.target) != "gradients"
        goal = node.target
        return (isinstance(goal, ast.Subscript) and _base(goal) not in INTEGERS) or (
            isinstance(goal, ast.Name) and goal.id in floats
        )

    def of_operation(node, is_number, is_offset):
        left, right = node.left, node.right
        if isinstance(left, (ast.List, ast.Tuple)) or isinstance(right, (ast.List, ast.Tuple)):
            return
        if isinstance(node.op, ast.Add):
            if is_number:
                yield node, "sign", ast.BinOp(left, ast.Sub(), right)
            if is_number or is_offset:  # which may become smaller
                yield node, "addend", left
                yield node, "addend", right
        elif not is_number:
            return
        elif isinstance(node.op, ast.Sub):
            yield node, "sign", ast.BinOp(left, ast.Add(), right)
            yield node, "addend", left
            yield node, "addend", _negative(right)
        elif isinstance(node.op, ast.Mult):
            yield node, "factor", left
            yield node, "factor", right
        elif isinstance(node.op, (ast.Div, ast.Pow)):
            yield node, "factor", left

    yield from visit(function, False)


def _negative(node):
    return ast.UnaryOp(ast.USub(), node)


def _has_sign(node):
    """Whether an expression has signs of its own, which are flipped, or is no number."""
    return (
        (isinstance(node, ast.Call) and CHECKS.match(ast.unparse(node.func).rpartition(".")[2]) is not None)
        or isinstance(node, ast.UnaryOp)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)))
        or isinstance(
            node, (ast.Tuple, ast.List, ast.Dict, ast.ListComp, ast.IfExp, ast.Lambda, ast.BoolOp, ast.Compare)
        )
    )


def _base(node):
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _pairs(node):
    """The goals of an assignment, each with its value where that stands for itself."""
    for goal in node.targets:
        if isinstance(goal, ast.Tuple):
            if isinstance(node.value, ast.Tuple) and len(goal.elts) == len(node.value.elts):
                yield from zip(goal.elts, node.value.elts, strict=True)
        else:
            yield goal, node.value


# ---- putting them in place


def with_names(value):
    """A table, or a row of one, whose fields have names in Python as they have in compiled functions."""
    if not getattr(getattr(value, "dtype", None), "names", None):
        return value
    return value.view(np.recarray) if isinstance(value, np.ndarray) else value.view((np.record, value.dtype))


#: What a copied kernel is made with: left uncompiled, it meets neither Numba's files nor the caches of the original.
#: Of an array that Numba does not count Python would not know when it ends. Fields of a table have names there too.
UNCOMPILED = {
    "kernel": lambda signature: (
        lambda function: lambda char, part=None: lambda *arguments: function(*map(with_names, arguments))
    ),
    "compiled": lambda function, *how: function,
    "uncounted": lambda array: array,
    "once": lambda function: function,
    "inner": lambda function: function,
}
#: An activation is called by its address, so a copy is compiled too.
COMPILED = {
    "kernel": lambda signature: (
        lambda function: functools.cache(
            lambda char: njit(signature.replace("$", TYPES[char]), error_model="numpy")(function)
        )
    )
}
_inner = njit(error_model="numpy", nogil=True)


@functools.cache
def callable_here(function):
    """Of a function that compiled ones call only, one that may be called from Python too."""
    if isinstance(function, Dispatcher):
        return _inner(function.py_func)
    names = ", ".join(list(inspect.signature(function._defn).parameters)[1:])  # without the context of typing
    found = {}
    exec(f"def call({names}):\n    return function({names})", {"function": function}, found)
    return _inner(found["call"])


def is_for_compiled_ones(value):
    return isinstance(value, _Intrinsic) or (
        isinstance(value, Dispatcher) and value.targetoptions.get("no_cpython_wrapper")
    )


def namespace(module):
    found = {
        name: callable_here(value) if is_for_compiled_ones(value) else value for name, value in vars(module).items()
    }
    return found | UNCOMPILED | (COMPILED if module.__name__ == f"{KERNELS}.activations" else {})


def made(target, at=None, new=None):
    """A class or module, the name of its function, and a copy of that function, with `new` in place of the node `at`."""
    module, _, path = target.partition(":")
    names, holder = path.split("."), importlib.import_module(module)
    depth = 1
    if isinstance(getattr(holder, names[0]), type):
        depth, holder = 2, getattr(holder, names[0])
    whole, name = functions(module)[".".join(names[:depth])], names[depth - 1]
    return holder, name, _compiled_source(ast.unparse(_replaced(whole, at, new)), name, module, holder)


def _compiled_source(source, name, module, holder):
    found = {}
    body = textwrap.indent(source, "    ")
    source = f"from __future__ import annotations\ndef make(__class__):\n{body}\n    return {name}"
    exec(source, namespace(importlib.import_module(module)), found)
    return found["make"](holder)


def _replaced(whole, at, new):
    if at is None:
        return whole

    class Replace(ast.NodeTransformer):
        def visit(self, node):
            if node is at:
                return ast.Pass() if new is None else new
            return self.generic_visit(node)

    # nodes are kept apart by identity, so a copy is made on the way: generic_visit changes what it visits
    memo = {}
    copied = copy.deepcopy(whole, memo)
    at, new = memo[id(at)], copy.deepcopy(new)
    return ast.fix_missing_locations(Replace().visit(copied))


#: What calls the functions of a module, or one of them, that compiled ones call: from the inside out.
_CONV, _TAPS, _WINOGRAD, _PRODUCTS = (f"{KERNELS}.{name}" for name in ("convolutions", "taps", "winograd", "products"))
_VECTORS, _IMAGES, _CONDITIONED = (f"{KERNELS}.{name}" for name in ("fused_vectors", "fused_images", "conditioned"))
BACKWARD_OF_CONVOLUTIONS = ((_CONV, "convolve_vjp"), (_CONV, "backward"))
CALLERS = {
    **dict.fromkeys((_PRODUCTS, _TAPS, _WINOGRAD, _CONV), BACKWARD_OF_CONVOLUTIONS),
    f"{_CONV}:convolve_vjp": ((_CONV, "backward"),),
    **{
        f"{_TAPS}:{name}": (caller, *BACKWARD_OF_CONVOLUTIONS)
        for name, caller in (
            ("pad", (_CONV, "pad_images")),
            ("sum_taps", (_CONV, "sum_columns")),
            ("lattice", (_TAPS, "find_taps")),
        )
    },
    **{
        f"{_WINOGRAD}:{name}": ((_CONV, caller), *BACKWARD_OF_CONVOLUTIONS)
        for name, caller in (
            ("interpolate", "sum_columns"),
            ("interpolate_vjp", "pad_images"),
            ("evaluate_taps_vjp", "take_gradient"),
        )
    },
    f"{KERNELS}.matrices": ((f"{KERNELS}.tables", "prepare_vjp"), (_VECTORS, "backward")),
    **dict.fromkeys((f"{KERNELS}.rows", f"{KERNELS}.tables", _CONDITIONED), ((_VECTORS, "backward"),)),
    f"{KERNELS}.affine:shift_and_scale_vjp": ((_CONDITIONED, "couple_vjp"), (_VECTORS, "backward")),
    f"{KERNELS}.image_rows": ((_IMAGES, "through"),),
}


#: The same, of a function that is called in two ways.
TWO_CALLERS = {
    f"{KERNELS}.spline:rational_quadratic_vjp": (
        ((f"{KERNELS}.spline", "spline_vjp"),),
        ((_CONDITIONED, "couple_vjp"), (_VECTORS, "backward")),
    ),
}


def install(monkeypatch, holder, name, copied):
    """Puts the copy in its place; that of a function which compiled ones call, in copies of these, uncompiled."""
    module = getattr(holder, "__name__", None)
    key = f"{module}:{name}"
    for chain in TWO_CALLERS.get(key, [CALLERS.get(key, CALLERS.get(module, ()))]):
        _install(monkeypatch, holder, name, copied, chain)


def _install(monkeypatch, holder, name, copied, chain):
    module = getattr(holder, "__name__", None)
    for caller, outer in chain:
        if name == "backward" or (caller, outer) == (module, name):  # which is called from outside
            break
        source = ast.unparse(functions(caller)[outer])
        found, holder = {}, importlib.import_module(caller)
        exec("from __future__ import annotations\n" + source, namespace(holder) | {name: copied}, found)
        name, copied = outer, found[outer]
    original = vars(holder)[name]
    for module in [module for module in sys.modules.values() if getattr(module, "__name__", "").startswith("invnet.")]:
        if vars(module).get(name) is original:  # which imported it
            monkeypatch.setattr(module, name, copied)
    monkeypatch.setattr(holder, name, copied)


# ---- what must find them

CASES = {
    **against_torch.LAYERS,
    **against_torch.WITH_CONDITION,
    **against_torch.FLOWS,
    **against_torch.NETS,
    **{f"Glow-{name}": row for name, row in against_torch.GLOWS.items()},
    **{f"blocks-{name}": row for name, row in against_torch.BLOCKS.items()},
    "gathers-3d": (ConvNet(2, (), 4, kernels=(3,), ndim=3, **f64), (2, 2, 3, 4, 5)),
    "scatters-3d": (ConvNet(4, (), 2, kernels=(3,), ndim=3, **f64), (2, 4, 3, 4, 5)),
    "gathers-3d-wide": (ConvNet(2, (), 4, kernels=(5,), ndim=3, **f64), (2, 2, 3, 4, 5)),
    "scatters-3d-wide": (ConvNet(4, (), 2, kernels=(5,), ndim=3, **f64), (2, 4, 3, 4, 5)),
    "many-positions-wide-kernels": (ConvNet(3, (6,), 4, kernels=(5, 5), activation="softplus", **f64), (2, 3, 13, 10)),
    "many-positions": (ConvNet(3, (6, 5), 4, activation="softplus", **f64), (2, 3, 13, 10)),
    "many-positions-narrowing": (ConvNet(7, (5, 3), 2, activation="silu", **f64), (2, 7, 13, 10)),
    "one-cond": (ConvNet(3, 6, 4, cond_channels=2, **f64), (2, 3, 4, 5), (1, 2)),
    "parts-run": against_torch.FLOWS["run"],
    "parts-Reverse-run": against_torch.FLOWS["Reverse-run"],
    "many-positions-cond": (ConvNet(3, 6, 4, cond_channels=2, **f64), (2, 3, 13, 10), (2, 2)),
    "wide": (DenseNet(3, 260, 4, **f64), (250, 3)),
    "ConvNet-square": (ConvNet(3, (3,), 3, kernels=(1, 1), ndim=0, **f64), shape(0, 3)),
    "some-rows": (Chain(ActNorm(8, **f64), Conv1x1(8, **f64)), (3, 8, 12, 13)),
    "many-rows": (Chain(ActNorm(8, **f64), Conv1x1(8, **f64)), (3, 8, 120, 130)),
    "many-rows-bent": (Chain(Planar(2, **f64), Radial(2, **f64)), (3, 2, 60, 60)),
    "staircase-twice": (Chain(*[staircase(6)] * 2), shape(0, 6)),
    "planar-twice": (Chain(*[Planar(5, **f64), Radial(5, **f64)] * 2), shape(0)),
    "many-numbers": (spline_coupling(3), (3, 3, 12, 13)),
    "many-numbers-affine": (affine(5), (3, 5, 12, 13)),
    "run-many-rows-scaled": (Chain(*[ActNorm(3, **f64), Permute.reversal(3)] * 2), (300, 3)),
    "twice": (Chain(*[ActNorm(5, **f64), Permute.random(5)] * 2), shape(2)),
}

#: The cases of test_against_torch.py that exercise the functions of a module, or of one function; the longest name that
#: a function begins with counts. Of other engines than NumPy's they are rows of cases.py, on which laws are checked.
EXERCISED_BY = {
    "invnet.core.gradients": ["dlogdet-None", "ActNorm-0d"],
    "invnet.core.layer": [
        "Permute-2d",
        "inverse_backward",
        "Chain around a user's own layer",
        "Reverse of a user's own layer",
        "Reverse-Permute-2d",
        "Glow-three-levels",
        "ActNorm-2d",
        "Reverse-ActNorm-2d",
    ],
    "invnet.core.parameters": ["Chain-vector", "MAF-cond", "AffineCoupling-one-condition"],
    "invnet.losses": ["likelihood"],
    "invnet.fused.group": ["run", "Reverse-run"],
    "invnet.layers.actnorm": ["ActNorm-2d", "ActNorm-0d", "Chain-folds-ActNorm-Conv1x1", "twice"],
    "invnet.layers.channel_affine": [
        "Reverse-Chain-folds-five",
        "Chain-folds-five",
        "Reverse-ActNorm-2d",
        "ActNorm-2d",
        "Reverse-Conv1x1-full-2d",
        "Chain-folds-ActNorm-ActNorm",
        "Chain-folds-Conv1x1-Conv1x1",
        "Reverse-Conv1x1-lu-2d",
    ],
    "invnet.layers.conv1x1": [
        "Conv1x1-lu-2d",
        "Conv1x1-householder-2d",
        "Conv1x1-full-2d",
        "Conv1x1-householder-three-reflections",
    ],
    "invnet.layers.coupling": ["AffineCoupling-bounded-2d", "Reverse-AffineCoupling-bounded-2d"],
    "invnet.layers.conditioned": [
        "AffineCoupling-bounded-2d",
        "blocks-AffineCoupling-vector",
        "Chain-shares-a-layer",
        "Chain-vector",
        "AutoregressiveAffine-forward-0d",
        "IAF-cond",
    ],
    "invnet.layers.autoregressive": [
        "AutoregressiveAffine-forward-0d",
        "AutoregressiveAffine-inverse-0d",
        "Reverse-AutoregressiveAffine-forward-0d",
        "Reverse-AutoregressiveAffine-inverse-0d",
        "AutoregressiveAffine-inverse-plain",
        "Reverse-AutoregressiveAffine-forward-plain",
        "AutoregressiveAffine-inverse-plain-cond",
        "IAF-cond",
    ],
    "invnet.layers.transforms.affine": ["AffineCoupling-sigmoid-2d", "Reverse-AffineCoupling-bounded-2d"],
    "invnet.layers.transforms.shift": ["AdditiveCoupling-2d", "Reverse-AdditiveCoupling-2d"],
    "invnet.layers.transforms.spline": [
        "SplineCoupling-2d",
        "Reverse-SplineCoupling-2d",
        "AutoregressiveSpline-forward-0d",
        "AutoregressiveSpline-inverse-0d",
    ],
    "invnet.layers.planar": ["Planar-2d", "Radial-2d", "Reverse-Planar-2d", "Reverse-Radial-2d", "planar-twice"],
    "invnet.layers.leaky_relu": ["LeakyReLU-2d", "Reverse-LeakyReLU-2d"],
    "invnet.layers.logit": ["Logit-2d", "Reverse-Logit-2d", "Sigmoid-with-a-margin", "Logit-wide-margin"],
    "invnet.layers.compose": [
        "Chain-shares-a-layer",
        "Reverse-Chain-shares-a-layer",
        "FactorOut-prior-2d",
        "FactorOut-plain-2d",
        "Reverse-FactorOut-prior-2d",
        "Reverse-FactorOut-plain-2d",
        "Reverse-ActNorm-2d",
        "Reverse-Reverse",
    ],
    "invnet.layers.partitioned_coupling": [
        "PartitionedAdditiveCoupling-2d",
        "Reverse-PartitionedAdditiveCoupling-0d",
        "PartitionedAdditiveCoupling-parts-of-two",
    ],
    "invnet.layers.split_tokens": ["SplitTokens-rows", "SplitTokens-checkerboard"],
    "invnet.layers.permute": ["Permute-2d", "Reverse-Permute-2d"],
    "invnet.layers.squeeze": ["Squeeze-2d", "Reverse-Squeeze-2d"],
    "invnet.layers.exact": ["Exact-AffineCoupling-bounded-2d", "Exact-vector"],
    "invnet.layers.grid_layers": [
        "Exact-AffineCoupling-bounded-2d",
        "Exact-AdditiveCoupling-2d",
        "Exact-Chain-folds-five",
        "Exact-Conv1x1-full-0d",
        "Exact-vector",
        "Exact-FactorOut-prior-2d",
    ],
    "invnet.nets.conv": [
        "ConvNet-vector-cond-1d",
        "ConvNet-relu",
        "ConvNet-spatial-cond-2d",
        "ConvNet-vector-cond-0d",
        "ConvNet-finer-cond-2d",
        "one-cond",
        "ConvNet-square",
    ],
    "invnet.nets.masked": [
        "MaskedDenseNet-5-channels",
        "MaskedDenseNet-cond",
        "AutoregressiveAffine-inverse-0d",
        "AutoregressiveAffine-inverse-order",
        "AutoregressiveAffine-inverse-3-channels-cond",
        "AutoregressiveAffine-inverse-no-hidden-cond",
    ],
    "invnet.nets.planar": ["PlanarNet-3-channels", "RadialNet-3-channels", "PlanarNet-at-each-position"],
    f"{REFERENCE}.activations": [
        *(f"ConvNet-{name}" for name in ("relu", "leaky_relu", "silu", "softplus", "gelu", "tanh"))
    ],
    f"{REFERENCE}.channels": ["ActNorm-2d", "Conv1x1-lu-2d", "Conv1x1-full-2d", "Chain-folds-five"],
    f"{REFERENCE}.conv_stack": [
        "ConvNet-vector-cond-2d",
        "ConvNet-gathers-throughout",
        "ConvNet-scatters-throughout",
        "ConvNet-silu",
        "gathers-3d",
        "scatters-3d",
    ],
    f"{REFERENCE}.coupling": [
        f"{way}AffineCoupling-{scale}-2d" for way in ("", "Reverse-") for scale in ("bounded", "sigmoid", "doubled")
    ]
    + ["AdditiveCoupling-2d"],
    f"{REFERENCE}.pointwise:Pointwise.planar": ["Planar-2d", "Reverse-Planar-2d"],
    f"{REFERENCE}.pointwise:Pointwise.radial": ["Radial-2d", "Reverse-Radial-2d"],
    f"{REFERENCE}.pointwise": ["Planar-2d", "Radial-2d"],
    f"{REFERENCE}.spline": ["SplineCoupling-2d", "Reverse-SplineCoupling-2d", "SplineCoupling-ten-bins"],
    f"{REFERENCE}.arrays": ["ConvNet-relu", "AffineCoupling-bounded-2d"],
    f"{ENGINE}.channels": ["Chain-folds-five", "ActNorm-2d", "Conv1x1-lu-2d", "many-rows"],
    f"{ENGINE}.conv_stack": ["ConvNet-relu", "ConvNet-vector-cond-2d"],
    f"{ENGINE}.couplings": ["AffineCoupling-bounded-2d", "Reverse-AffineCoupling-sigmoid-2d", "AdditiveCoupling-2d"],
    f"{ENGINE}.pointwise": [
        "Planar-2d",
        "Radial-2d",
        "Reverse-Planar-2d",
        "SplineCoupling-2d",
        "Reverse-SplineCoupling-2d",
        "many-rows-bent",
    ],
    f"{ENGINE}.fused_vectors": ["run", "Reverse-run", "run-tiles"],
    f"{ENGINE}.fused_images": ["run-images", "Reverse-run-images", "run-images-tiles"],
    f"{KERNELS}.activations": [
        *(f"ConvNet-{name}" for name in ("relu", "leaky_relu", "silu", "softplus", "gelu", "tanh"))
    ],
    f"{KERNELS}.affine:shift_and_scale_vjp": ["run", "Reverse-run"],
    f"{KERNELS}.affine": [
        "AffineCoupling-bounded-2d",
        "AffineCoupling-sigmoid-0d",
        "Reverse-AffineCoupling-doubled-2d",
        "many-numbers-affine",
    ],
    f"{KERNELS}.conditioned": [
        "run",
        "run-autoregressive",
        "run-silu",
        "run-splines",
        "Reverse-run",
        "Reverse-run-autoregressive",
        "run-wide",
        "run-many-rows",
    ],
    f"{KERNELS}.convolutions": [
        "many-positions",
        "many-positions-narrowing",
        "ConvNet-vector-cond-2d",
        "ConvNet-silu",
        "gathers-3d",
        "scatters-3d",
        "many-positions-wide-kernels",
        "wide",
    ],
    f"{KERNELS}.fused_images": ["run-images", "Reverse-run-images"],
    f"{KERNELS}.fused_vectors": ["run", "Reverse-run", "parts-run", "parts-Reverse-run", "run-many-rows", "run-tiles"],
    f"{KERNELS}.image_rows": ["run-images", "Reverse-run-images", "run-images-wide"],
    f"{KERNELS}.matrices": ["run-householder", "Reverse-run-householder"],
    f"{KERNELS}.mix": ["Chain-folds-five", "ActNorm-2d", "some-rows", "Conv1x1-full-2d"],
    f"{KERNELS}.planar": ["Planar-2d", "Reverse-Planar-2d", "Planar-steep", "many-rows-bent"],
    f"{KERNELS}.products": ["wide", "many-positions-cond"],
    f"{KERNELS}.radial": ["Radial-2d", "Reverse-Radial-2d"],
    f"{KERNELS}.rows": ["run", "Reverse-run", "run-many-rows-scaled", "run-many-rows"],
    f"{KERNELS}.simple": ["AffineCoupling-bounded-2d"],
    f"{KERNELS}.spline": ["SplineCoupling-2d", "Reverse-SplineCoupling-2d", "many-numbers", "run-splines"],
    f"{KERNELS}.tables": ["run", "Reverse-run", "run-householder"],
    f"{KERNELS}.taps": ["scatters-3d-wide", "gathers-3d-wide", "gathers-3d", "scatters-3d"],
    f"{KERNELS}.winograd": ["gathers-3d", "scatters-3d", "many-positions-narrowing", "many-positions"],
    TORCH: [
        "ActNorm, 2 axes, 3 channels",
        "Conv1x1 lu, 1 axes, 4 channels",
        "AffineCoupling bounded, 2 axes, 3 channels",
        "AffineCoupling sigmoid, 1 axes, 4 channels",
        "Reverse of AffineCoupling bounded, 0 axes, 3 channels",
        "Chain of foldable layers",
    ],
    f"{TORCH}.conv_stack": [
        "coupling, vector condition",
        "AdditiveCoupling, 2 axes, 4 channels",
        "AffineCoupling bounded, 0 axes, 3 channels",
        "RealNVP, 3 features",
    ],
    f"{TORCH}.host": ["coupling, vector condition", "RealNVP, 2 features", "Glow"],
    f"{CUPY}.channels": [
        "ActNorm, 2 axes, 3 channels",
        "Conv1x1 full, 3 axes, 3 channels",
        "Conv1x1 lu, 1 axes, 4 channels",
        "Chain of foldable layers",
    ],
    f"{CUPY}.conv_stack": [
        "coupling, vector condition",
        "AdditiveCoupling, 2 axes, 4 channels",
        "AffineCoupling bounded, 0 axes, 3 channels",
        "RealNVP, 2 features",
        "AutoregressiveAffine fast inverse, 3 channels",
    ],
    f"{CUPY}.couplings": [
        "AffineCoupling bounded, 2 axes, 3 channels",
        "Reverse of AffineCoupling bounded, 0 axes, 3 channels",
        "AffineCoupling sigmoid, 1 axes, 4 channels",
    ],
    f"{CUPY}.pointwise": [
        "SplineCoupling, 1 axes, 3 channels",
        "Reverse of SplineCoupling, 1 axes, 3 channels",
        "Planar, 2 axes, 3 channels",
        "Radial, 2 axes, 3 channels",
        "Reverse of Planar, 2 axes, 3 channels",
        "Reverse of Radial, 2 axes, 3 channels",
    ],
}


def cases_of(target):
    best = max((name for name in EXERCISED_BY if target.startswith(name)), key=len, default=None)
    assert best is not None, f"EXERCISED_BY does not say which cases exercise {target}"
    return EXERCISED_BY[best]


ONCE = "these sums begin at zero, and each is added to once"
CLEARS = "clears numbers beyond the samples, which are of no use"
DRIFT = "a log-determinant that drift is measured by (test_drift.py), and no gradient"

#: function -> {change: why it changes nothing that a gradient could show}
EQUIVALENT = {
    **{
        f"invnet.core.layer:Layer.{method}": {f"{d} -> -{d} #2": "gives a dtype"}
        for method, d in (("backward_", "dZ"), ("inverse_backward_", "dX"))
    },
    "invnet.layers.logit:Logit.backward_": {
        "-xp.abs(ops.rows(Z)) -> xp.abs(ops.rows(Z))": "(1 + e)^2 / e is the same of 1 / e; the sign avoids an overflow",
    },
    **{
        f"invnet.layers.partitioned_coupling:PartitionedAdditiveCoupling.{method}": {
            "dlogdet -> -dlogdet": "the log-determinant of additive couplings is 0",
        }
        for method in ("backward_", "inverse_backward_")
    },
    f"{REFERENCE}.spline:Splines._spline_gradient": {
        f"logits - xp.max(logits, axis=-1, keepdims=True) -> {other}": "a softmax does not change with a shift"
        for other in ("logits", "logits + xp.max(logits, axis=-1, keepdims=True)")
    },
    "invnet.nets.masked:MaskedDenseNet.substitute_vjp": {
        "d.ndim - 1 -> -1": "the same axis",
    },
    f"{ENGINE}.couplings:Couplings._coupled_vjp": {
        "dX -> -dX": "where rows are views nothing is written back; strides_do_not_matter shows that it is elsewhere",
    },
    f"{ENGINE}.fused_images:FusedImages.fused_images_vjp_": {"bound -> -bound": "a bound of condition numbers"},
    f"{KERNELS}.conditioned:couple_vjp": {
        "net.weight_columns + later -> later": "the columns of a first layer are 0, 1, 2 ..., as `index` begins",
        "h.ends_out + g -> h.ends_out": "units of earlier groups are computed again in their turn",
        "outputs.ends_out + g + 1 -> outputs.ends_out + g": CLEARS,
        "outputs.ends_out + g + 1 -> 1": CLEARS,
        "outputs.ends_out + g -> outputs.ends_out #2": "groups without outputs come first",
        "outputs.ends_out + g -> g #2": "groups without outputs come first",
    },
    f"{KERNELS}.conditioned:gradients_of_units": {
        "G[W + rows[k] + columns[i]] += work[out + k * width + i] -> "
        "G[W + rows[k] + columns[i]] = work[out + k * width + i]": ONCE,
    },
    f"{KERNELS}.convolutions:take_gradient": {"sums[c] += row[c] -> sums[c] = row[c]": ONCE},
    f"{KERNELS}.convolutions:convolve_vjp": {
        "gradients[t[DB] + c] += work[db + c] -> gradients[t[DB] + c] = work[db + c]": ONCE,
    },
    f"{KERNELS}.fused_vectors:backward": {
        **{
            f"logdet[r + i] += same -> {other}": DRIFT
            for other in ("logdet[r + i] -= same", "nothing", "logdet[r + i] = same")
        },
        "r + n -> r": DRIFT,
        "r + n -> n": DRIFT,
    },
    f"{KERNELS}.image_rows:scale_vjp": {
        "g[c] += sign * products[c] -> g[c] = sign * products[c]": ONCE,
        "g[2 * C + c] += sign * sums[c] -> g[2 * C + c] = sign * sums[c]": ONCE,
    },
    f"{KERNELS}.image_rows:sums_of_products": {
        "zeros + pitch -> zeros": "the mix before it has cleared the same row",
        "zeros + pitch -> pitch": "the mix before it has cleared the same row",
        "G[i * C + j] += sign * work[out + i * pitch + j] -> G[i * C + j] = sign * work[out + i * pitch + j]": ONCE,
    },
    f"{KERNELS}.mix:mix_vjp.mix_vjp": {
        "dM[i * C + k] += work[d + i * pitch + k] -> dM[i * C + k] = work[d + i * pitch + k]": ONCE,
    },
    f"{KERNELS}.rows:scale_vjp": {
        "o + c * pitch -> c * pitch": "rows of channels are the first: o is 0",
        "o + c * pitch -> c * pitch #2": "rows of channels are the first: o is 0",
    },
    f"{KERNELS}.rows:sums_of_products": {
        "b + j * pitch -> j * pitch": "rows of channels are the first: b is 0",
        "b + j * pitch -> j * pitch #2": "rows of channels are the first: b is 0",
    },
    f"{KERNELS}.winograd:interpolate": {"Q * PATCH + 2 -> Q * PATCH": "rows beyond the image, which nothing reads"},
    f"{KERNELS}.winograd:interpolate_vjp": dict.fromkeys(
        ("spare + (W + 1) * pitch -> spare", "W + 1 -> W", "W + 1 -> 1"), "rows are cleared that are filled later"
    ),
    f"{CUPY}.channels:Channels.mix_vjp_": {
        "parts * C -> parts": "how much memory is taken, of which the stand-in has enough",
        "parts * C -> C": "how much memory is taken, of which the stand-in has enough",
    },
}


@contextlib.contextmanager
def exercised(target, monkeypatch):
    """A function of a case, which raises AssertionError where the case does not have the gradients of autograd.

    What is rebuilt wrongly is not healed. There are two threads, so that sums of tiles are apart, and are added.
    """
    module = target.partition(":")[0]
    monkeypatch.setattr(BackwardPolicy, "_drift_tolerance", np.inf)
    before = invnet.num_threads()
    invnet.set_num_threads(2)
    try:
        if module == TORCH or module.startswith((f"{TORCH}.", f"{CUPY}.")):
            name = "cupy" if module.startswith(CUPY) else "torch" if module == f"{TORCH}.host" else "torch-aten"
            yield lambda case: _obeys_laws(case, ENGINES[name])
        else:
            with pytest.MonkeyPatch.context() as by_reference:
                if target.startswith(REFERENCE):
                    _use_reference(by_reference)
                if target.startswith("invnet.fused.group"):  # which calls layers one by one by the reference
                    yield lambda case: _agrees(case) or _agrees_by_reference(case)
                else:
                    yield _agrees
    finally:
        invnet.set_num_threads(before)
        plan.cache_clear()


def _obeys_laws(name, engine=None):
    with engine.used() if engine else contextlib.nullcontext(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of drift, which a broken term brings too
        for law in (backward_rebuilds_the_input, gradients_are_those_of_differences):
            module, X, cond = CASES_OF_LAWS[name].build()
            if engine:
                module, X, cond = module.to(engine.name), engine.array(X), engine.array(cond)
            law(module, X, cond, np.random.default_rng(0))


def _inverse_backward_agrees():
    """That a user may call it, where `Reverse` calls what it is made of."""
    thing, Z, cond, dX, dlogdet, expected = _expected("Reverse-ActNorm-2d")
    layer, X = copy.deepcopy(thing.layer), expected["Z"]
    layer.zero_grad()
    dZ, rebuilt = layer.inverse_backward(dX.copy(), X.copy(), dlogdet)
    found = {"dX": dZ, "X": rebuilt, **{f"layer.{name}": p.grad for name, p in layer.named_parameters()}}
    assert_same(found, {name: expected[name] for name in found})


def _use_reference(monkeypatch):
    monkeypatch.setitem(_of_type, np.ndarray, lambda array, ops=Ops(array_api_compat.numpy): ops)


def _agrees_by_reference(case):
    with pytest.MonkeyPatch.context() as monkeypatch:
        _use_reference(monkeypatch)
        _agrees(case)


def _agrees(case):
    plan.cache_clear()  # which has addresses of activations
    if case not in CASES and case in CASES_OF_LAWS:
        return _obeys_laws(case)
    if case == "inverse_backward":
        return _inverse_backward_agrees()
    if case == "likelihood":
        return against_torch.check_likelihood((4, 3, 4, 8))
    thing, X, cond, dZ, dlogdet, expected = _expected(case)
    with pytest.MonkeyPatch.context() as monkeypatch:
        if case.startswith("blocks-"):
            against_torch.small_tiles(monkeypatch)
        if case.startswith("parts-"):
            monkeypatch.setattr(vector_plan, "LARGEST", 1)  # a layer is a part
        _fill_scratch_memory(monkeypatch)
        found = by_hand(copy.deepcopy(thing), X.copy(), None if cond is None else cond.copy(), dZ.copy(), dlogdet)
    return assert_same(found, expected)


def _fill_scratch_memory(monkeypatch):
    """What nobody has cleared is no number."""
    from invnet.ops.memory import passing

    def filled(shape, dtype):
        array = passing(shape, dtype)
        array[...] = np.nan if np.dtype(dtype).kind == "f" else 0
        return array

    for module in (conv_stack, fused_images, fused_vectors):
        monkeypatch.setattr(module, "passing", filled)


@functools.cache
def _expected(case):
    """A case, and what autograd makes of its twin."""
    if case == "dlogdet-None":
        (thing, size), cond_size, dlogdet = against_torch.LAYERS["ActNorm-2d"], None, None
    else:
        thing, size, *cond_size = CASES[case]
        cond_size, dlogdet = cond_size[0] if cond_size else None, "random"
    rng = np.random.default_rng(1)
    X = rng.random(size) if against_torch.takes_unit_interval(thing) else rng.standard_normal(size)
    cond = None if cond_size is None else rng.standard_normal(cond_size)
    thing, rng = randomised(thing), np.random.default_rng(0)
    dZ = rng.standard_normal(shape_of_output(thing, X, cond))
    if isinstance(dlogdet, str):
        dlogdet = rng.standard_normal(len(X))
    return thing, X, cond, dZ, dlogdet, by_autograd(thing, X, cond, dZ, dlogdet)


def shape_of_output(thing, X, cond):
    Z = thing.forward(X, cond)
    return (Z if isinstance(thing, invnet.Conditioner) else Z[0]).shape


def surviving(target, only=None):
    """The mutants of a function that no case finds, but for those of EQUIVALENT; and how many there were of each fate.

    `only` is a function that says of a Mutant whether it is made.
    """
    counts = dict.fromkeys(("found", "stopped", "equivalent", "survived"), 0)
    left = []
    _passes_unbroken(target)
    known = EQUIVALENT.get(target, {})
    for mutant, at, new in mutants(target):
        if only is not None and not only(mutant):
            continue
        if mutant.change in known:
            counts["equivalent"] += 1
            continue
        fate = fate_of(target, at, new)
        counts[fate] += 1
        if fate == "survived":
            left.append(mutant)
    return left, counts


def _passes_unbroken(target):
    """Making the copy is not what breaks it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch, *made(target))
        with exercised(target, monkeypatch) as check:
            for case in cases_of(target):
                check(case)


def fate_of(target, at, new):
    """ "found" by a comparison, "stopped" by an error, or "survived"."""
    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        install(monkeypatch, *made(target, at, new))
        with exercised(target, monkeypatch) as check:
            for case in cases_of(target):
                try:
                    check(case)
                except AssertionError:
                    return "found"
                except Exception:  # of any kind: shapes that do not fit, say
                    return "stopped"
    return "survived"


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", nargs="?", default="", help="functions whose names contain it; all without")
    parser.add_argument("--all", action="store_true", help="also functions that have not changed")
    parser.add_argument("--write", action="store_true", help="write the digests of functions of which all were found")
    options = parser.parse_args(arguments)
    chosen, total = [target for target in targets() if options.text in target], collections.Counter()
    if not options.all:
        chosen = [target for target in chosen if target in changed_targets()]
    for target in chosen:
        start = time.perf_counter()
        try:
            left, counts = surviving(target)
        except Exception as error:
            print(f"{target}: UNBROKEN COPY FAILS: {type(error).__name__} {str(error)[:200]}", flush=True)
            continue
        total.update(counts)
        print(f"{target}: {counts} in {time.perf_counter() - start:.0f} s", flush=True)
        for mutant in left:
            print(f"    SURVIVED {mutant.kind}: {mutant.change}", flush=True)
        if options.write and not left:
            known = {name: value for name, value in baseline().items() if name in targets()}
            BASELINE.write_text(json.dumps({**known, target: digest(target)}, indent=1, sort_keys=True) + "\n")
    print(dict(total))


if __name__ == "__main__":
    main(sys.argv[1:])
