"""Copies of functions with a piece of their source replaced, for tests that name what they break."""

import ast
import functools
import importlib
import inspect
import re
import textwrap

from mutants import install, namespace

__all__ = ["functions", "install", "mutant"]


@functools.cache
def functions(module):
    """The source of every function in a module, decorators included, by its name: Class.method, Class.method.inner."""
    source, found = inspect.getsource(importlib.import_module(module)), {}
    lines = source.splitlines(keepends=True)

    def visit(node, names):
        for child in ast.iter_child_nodes(node):
            inside = names
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                inside = (*names, child.name)
                start = min(line.lineno for line in (child, *child.decorator_list))
                if isinstance(child, ast.FunctionDef):
                    found[".".join(inside)] = "".join(lines[start - 1 : child.end_lineno])
            visit(child, inside)

    visit(ast.parse(source), ())
    return found


def places_of(piece, source):
    """Where a piece stands in a source, whatever the line breaks, other white space and commas that end a list in
    brackets.
    """

    def letters(text):
        kept = [(c, i) for i, c in enumerate(text) if not c.isspace()]
        return [
            (c, i)
            for (c, i), (following, _) in zip(kept, [*kept[1:], ("", 0)])
            if c != "," or following not in (")", "]", "}")
        ]

    wanted, there = "".join(c for c, _ in letters(piece)), letters(source)
    text = "".join(c for c, _ in there)
    starts = [match.start() for match in re.finditer(f"(?={re.escape(wanted)})", text)]
    return [(there[k][1], there[k + len(wanted) - 1][1] + 1) for k in starts]


def mutant(target, piece, replacement):
    """A class or module, the name of its function, and a copy of that function with one piece of its source
    replaced.
    """
    module, _, path = target.partition(":")
    sources, module, names = functions(module), importlib.import_module(module), path.split(".")
    found = places_of(piece, sources.get(path, ""))
    assert len(found) == 1, f"{target} has {piece!r} {len(found)} times: rewrite the row of the test"
    holder = getattr(module, names[0])
    depth, holder = (2, holder) if isinstance(holder, type) else (1, module)
    whole, name = sources[".".join(names[:depth])], names[depth - 1]
    (start, stop), inner = found[0], sources[path]
    source = whole.replace(inner, inner[:start] + replacement + inner[stop:])
    made = {}
    body = textwrap.indent(textwrap.dedent(source), "    ")
    exec(
        f"from __future__ import annotations\ndef make(__class__):\n{body}\n    return {name}", namespace(module), made
    )
    return holder, name, made["make"](holder)
