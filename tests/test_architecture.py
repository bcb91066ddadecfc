"""The floors of the package: what may import what. docs/design.md draws them."""

import ast
import pathlib

import invnet

ROOT = pathlib.Path(invnet.__file__).parent

#: from the ground up; a package imports from its own floor and from those before it, `arguments` is for all
FLOORS = [
    ["typing"],
    ["arguments", "deprecated", "process_group"],
    ["ops"],
    ["passes"],
    ["core"],
    ["fused"],
    ["nets", "bases"],
    ["layers"],
    ["architecture", "files_0_1", "flow", "optim"],
    ["torch", "io"],
    ["models", "losses", "objectives", "data", "plot", "distributed", "testing"],
    ["inference", "train", "bench"],
    ["cli"],
    ["invnet", "__main__"],
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
LIBRARIES = {"torch", "cupy"}
#: where an array library other than NumPy may be named
LIBRARY_PLACES = ("ops/torch", "ops/cupy", "torch/", "distributed/", "bench/", "objectives/bridges.py", "models/jet.py")


def imports():
    """(file, module that it imports) of all imports in the package, those in functions too."""
    for file in sorted(ROOT.rglob("*.py")):
        path = file.relative_to(ROOT)
        package = ("invnet", *path.parts[:-1])
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else ()
                module = ".".join([*base, *([node.module] if node.module else [])])
                names = [module] if node.module else [f"{module}.{alias.name}" for alias in node.names]
                yield from ((path, name) for name in names)


def part(module):
    """The package or file of invnet's top level that a module lies in."""
    names = module.split(".")
    return names[1] if len(names) > 1 and names[1] in FLOOR else "invnet"


def part_of(path):
    return path.parts[0] if len(path.parts) > 1 else "invnet" if path.stem == "__init__" else path.stem


def test_every_part_has_a_floor():
    parts = {part_of(file.relative_to(ROOT)) for file in ROOT.rglob("*.py")}
    assert parts == set(FLOOR)


def test_arrows_go_down_only():
    arrows = {
        (part_of(path), part(module), str(path)) for path, module in imports() if module.split(".")[0] == "invnet"
    }
    upward = [
        f"{file}: {here} imports {there}"
        for here, there, file in sorted(arrows)
        if here != there and FLOOR[there] >= FLOOR[here] and not (there == "invnet" and here in ("cli", "bench"))
    ]
    assert not upward, "\n".join(upward)


def test_drift_is_measured_in_its_own_files():
    """What a change of the measure touches: drift.py, trace.py, policy.py and healing.py of passes."""
    users = {
        (path.as_posix(), module.removeprefix("invnet.passes."))
        for path, module in imports()
        if module in ("invnet.passes.drift", "invnet.passes.trace") and path.parts[0] != "passes"
    }
    assert users == {("layers/compose.py", "trace")}
    files = {path.as_posix() for path in ROOT.rglob("*.py") if "DriftMonitor" in path.read_text()}
    inside = {f"passes/{name}.py" for name in ("context", "drift", "trace", "policy", "healing", "saved")}
    assert {pathlib.Path(file).relative_to(ROOT).as_posix() for file in files} <= {
        *inside,
        "testing/reconstruction.py",
    }


def test_an_array_library_is_named_in_its_places_only():
    elsewhere = [
        f"{path} imports {module}"
        for path, module in imports()
        if module.split(".")[0] in LIBRARIES and not path.as_posix().startswith(LIBRARY_PLACES)
    ]
    assert not elsewhere, "\n".join(elsewhere)
