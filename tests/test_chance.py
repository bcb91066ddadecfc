"""No test is left to chance: what the syntax of the tests, the examples and the pages shows, and what tests/conftest.py
does.

A number that no seed determines, a threshold on an unclipped training, a deadline of Hypothesis: each decides a test by
luck on some machine.
"""

import ast
import os
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import conftest
import numpy as np
import pytest
import torch

import invnet

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("tests/*.py"), *ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/*.py")])
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Parts of numpy.random that hold no global state.
STATELESS = {"default_rng", "Generator", "SeedSequence", "PCG64", "BitGenerator"}
TORCH_DRAWS = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "normal",
    "bernoulli",
    "multinomial",
    "rand_like",
    "randn_like",
    "randint_like",
}
UNSEEDED = {
    "os.urandom",
    "uuid.uuid1",
    "uuid.uuid4",
    "torch.seed",
    "random.SystemRandom",
    "np.random.seed",
    "random.seed",
}


def dotted(node):
    """ "a.b.c" of such an expression, "" of another."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".removeprefix(".")
    return node.id if isinstance(node, ast.Name) else ""


def chance(tree, seeded_by_conftest=False):
    """(line, what) of every draw whose seed is nowhere: of NumPy and Python anywhere, of PyTorch outside of functions
    and before a `manual_seed`.

    In the functions of tests PyTorch is seeded by conftest.py.
    """
    found, manual = (
        [],
        min(
            (
                node.lineno
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and dotted(node.func).endswith("manual_seed")
            ),
            default=None,
        ),
    )

    def visit(node, inside):
        if isinstance(node, ast.Call):
            name, given = dotted(node.func), [*node.args, *(keyword.value for keyword in node.keywords)]
            none = not given or all(isinstance(value, ast.Constant) and value.value is None for value in given)
            unseeded = name in UNSEEDED or (name.endswith("default_rng") or name == "random.Random") and none
            of_numpy = re.match(r"(?:np|numpy)\.random\.(\w+)$", name)
            of_python = re.match(r"random\.([a-z]\w*)$", name)
            of_torch = (
                name.startswith("torch.")
                and name.split(".")[-1] in TORCH_DRAWS
                and not any(key.arg == "generator" for key in node.keywords)
            )
            if (
                unseeded
                or of_python
                or of_numpy
                and of_numpy[1] not in STATELESS
                or of_torch
                and not (inside and seeded_by_conftest)
                and (manual is None or node.lineno < manual)
            ):
                found.append((node.lineno, name))
        inside = inside or isinstance(node, (ast.FunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, False)
    return sorted(found)


def programs(tree):
    """The programs in strings, which tests run in processes of their own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            try:
                yield node.lineno, ast.parse(textwrap.dedent(node.value))
            except SyntaxError:
                pass


def loops_that_train(tree):
    """(loop, whether it clips) of each loop with a backward pass and a step of an optimizer of invnet or PyTorch."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.While)):
            calls = [dotted(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
            if any(re.search(r"\b(opt|optimizer|scaler)\.step$", call) for call in calls) and any(
                re.search(r"backward$|_kl$", call) for call in calls
            ):
                yield node, any("clip" in call for call in calls)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_number_is_drawn_without_a_seed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (
        []
        if path.name in ("conftest.py", "test_chance.py")
        else chance(tree, path.parent.name == "tests" and path.name not in ("ranks.py", "killed.py", "crashing.py"))
    )
    for line, program in programs(tree) if path.name != "test_chance.py" else ():
        found += [(line, f"in a program: {what}") for _, what in chance(program)]
    assert not found


def test_the_scan_finds_what_it_is_for():
    code = textwrap.dedent("""
        import torch, numpy as np, random
        X = torch.randn(3)
        def f():
            torch.rand(3); np.random.default_rng(0); np.random.default_rng([1, 2]); random.Random(3)
            np.random.default_rng(); np.random.default_rng(None); np.random.randn(3); random.random(); random.Random(); np.random.seed(0)
    """)
    found = [what for _, what in chance(ast.parse(code), seeded_by_conftest=True)]
    assert found == [
        "torch.randn",
        "np.random.default_rng",
        "np.random.default_rng",
        "np.random.randn",
        "np.random.seed",
        "random.Random",
        "random.random",
    ]
    assert "torch.rand" in [what for _, what in chance(ast.parse(code))]


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.parent.name != "benchmarks"],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_a_loop_that_trains_clips(path):
    """Without clipping Adam may meet one large gradient, after which rounding decides where the loss goes."""
    assert [
        loop.lineno for loop, clips in loops_that_train(ast.parse(path.read_text(encoding="utf-8"))) if not clips
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_loops_of_the_pages_clip(page):
    text, unclipped = page.read_text(encoding="utf-8"), []
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if "opt.step()" in block[1]:
            start = text.count("\n", 0, block.start(1))
            unclipped += [start + loop.lineno for loop, clips in loops_that_train(ast.parse(block[1])) if not clips]
    assert not unclipped


# ---- what conftest.py does


def drawn():
    return [random.random(), np.random.rand(), float(torch.rand(())), np.random.default_rng().random()]


def test_numbers_of_a_test_follow_from_its_name():
    conftest.seed_all("some test")
    first, second = drawn(), drawn()
    conftest.seed_all("some test")
    assert drawn() == first and drawn() == second != first
    conftest.seed_all("another test")
    assert drawn() != first


def test_what_invnet_draws_without_a_seed_follows_too():
    flow, samples = invnet.Flow(invnet.Chain(), (2,)), []
    for name in ("a", "a", "b"):
        conftest.seed_all(name)
        samples.append(flow.sample(3))
    assert np.array_equal(samples[0], samples[1]) and not np.array_equal(samples[1], samples[2])
    assert not np.array_equal(flow.sample(3), flow.sample(3))


# ---- what a test leaves


LEAVES = """
import os, invnet, numpy, torch
def test_threads(): invnet.set_num_threads(invnet.num_threads() + 1)
def test_environment(): os.environ["LEFT"] = "1"
def test_folder(tmp_path): os.chdir(tmp_path)
def test_errors(): numpy.seterr(all="raise")
def test_dtype(): torch.set_default_dtype(torch.float64)
def test_that_leaves_nothing(): pass
"""


def test_a_test_that_leaves_a_setting_fails_and_the_next_does_not(tmp_path):
    (tmp_path / "conftest.py").write_text(
        (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "test_it.py").write_text(LEAVES, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_it.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert "6 passed, 5 errors" in done.stdout and done.stdout.count("leaves to others") >= 5, done.stdout + done.stderr
