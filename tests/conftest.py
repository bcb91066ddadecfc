"""No test is decided by chance or by another: random numbers follow from the name of a test and from --seed, settings
are put back.

- Before each fixture and each test the global generators of Python, NumPy and PyTorch are seeded from its name, so that
  neither the order of the tests nor a selection of them changes a number.
- `np.random.default_rng()` without a seed takes one from NumPy's global generator, and so does all of invnet with
  `seed=None`.
- Hypothesis draws the same examples each time.
- `pytest --seed N` changes all of these numbers, those of `default_rng(0)` and `torch.manual_seed(0)` in the tests and
  in the library too. A test that only passes with its own seed fails then. Processes that a test starts are not
  reached, and tests marked `own_seeds` keep theirs: their figures are known for these numbers.
- A test that leaves a setting of the process changed fails: threads, dtypes, environment, folder.
- `--random-order-seed N --random-order-bucket global` (pytest-random-order) shuffles the tests.

tests/test_chance.py holds the tests to this.
"""

import logging
import os
import pathlib
import random
import signal
import subprocess
import sys
import zlib

import hypothesis
import numpy as np
import pytest

import invnet

sys.path.insert(0, os.path.dirname(__file__))

# A shell has what it puts in the background ignore Ctrl-C, and so would the processes that tests start and send one to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whether kernels are compiled in a test depends on those before it.
logging.getLogger("invnet.compile").setLevel(logging.ERROR)
_default_rng = np.random.default_rng
_shift, _own_seeds = 0, False


def pytest_addoption(parser):
    parser.addoption(
        "--seed", type=int, default=0, help="changes all random numbers of the tests (0: those of every day)"
    )


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads its options
def pytest_configure(config):
    global _shift
    _shift = config.getoption("--seed")
    hypothesis.settings.register_profile("invnet", derandomize=not _shift, database=None, deadline=None)
    hypothesis.settings.load_profile("invnet")
    np.random.default_rng = default_rng
    if _shift:
        config.option.hypothesis_seed = _shift
        import torch

        manual_seed = torch.manual_seed  # a large seed is one that the library drew, and draws from again
        torch.manual_seed = lambda seed: manual_seed(seed + _shift if 0 <= seed < 1000 and not _own_seeds else seed)


def pytest_unconfigure():
    np.random.default_rng = _default_rng


def default_rng(seed=None):
    """NumPy's, with the seed of the test in place of none, and another seed under --seed."""
    if seed is None:
        seed = np.random.randint(0, 2**31, 4)
    elif _own_seeds:
        pass
    elif _shift and np.ndim(seed) <= 1 and np.asarray(seed).dtype.kind in "iu":
        seed = np.append(np.atleast_1d(np.asarray(seed, object)), _shift).tolist()
    return _default_rng(seed)


def seed_all(name):
    """Seeds every global generator from a name and --seed."""
    number = zlib.crc32(f"{name} {_shift}".encode())
    random.seed(number)
    np.random.seed(number)
    if torch := sys.modules.get("torch"):  # None where a test hides it
        torch.manual_seed(number)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    seed_all(f"{fixturedef.argname} {request.node.nodeid}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    seed_all(item.nodeid)


# ---- what a test has to put back

_before = pytest.StashKey()
#: Variables that pytest keeps, and that PyTorch and scikit-learn set when they are imported.
OTHERS = {"PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK"}


def settings():
    """The settings of this process that a test could leave to those after it."""
    found = {
        "levels of loggers": logger_levels(),
        "invnet.num_threads()": invnet.num_threads(),
        "np.geterr()": np.geterr(),
        "np.random.default_rng": np.random.default_rng,
        "the working directory": os.getcwd(),
        "os.environ": {name: value for name, value in os.environ.items() if name not in OTHERS},
    }
    if torch := sys.modules.get("torch"):
        found |= {
            "torch.get_num_threads()": torch.get_num_threads(),
            "torch.get_default_dtype()": torch.get_default_dtype(),
            "torch.is_grad_enabled()": torch.is_grad_enabled(),
        }
    return found


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    global _own_seeds
    item.stash[_before], _own_seeds = settings(), item.get_closest_marker("own_seeds") is not None
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    global _own_seeds
    result, before, after, _own_seeds = (yield), item.stash[_before], settings(), False
    left = {name: (value, after[name]) for name, value in before.items() if after[name] != value}
    if left:
        restore(before)
        pytest.fail(
            "this test leaves to others: " + ", ".join(f"{name}, {changed(*values)}" for name, values in left.items()),
            pytrace=False,
        )
    return result


def logger_levels():
    return {
        name: logger.level
        for name, logger in logging.Logger.manager.loggerDict.items()
        if name.partition(".")[0] == "invnet" and isinstance(logger, logging.Logger) and logger.level
    }


def restore_logger_levels(before):
    for name in logger_levels() | before:
        logging.getLogger(name).setLevel(before.get(name, logging.NOTSET))


def changed(before, after):
    if isinstance(before, dict):
        differ = [name for name in before | after if before.get(name) != after.get(name)]
        before, after = ({name: values.get(name) for name in differ} for values in (before, after))
    return f"{before!r} became {after!r}"


def restore(before):
    invnet.set_num_threads(before["invnet.num_threads()"])
    restore_logger_levels(before["levels of loggers"])
    np.seterr(**before["np.geterr()"])
    np.random.default_rng = before["np.random.default_rng"]
    os.chdir(before["the working directory"])
    for name in [name for name in os.environ if name not in OTHERS]:
        del os.environ[name]
    os.environ.update(before["os.environ"])
    if "torch.get_num_threads()" in before:
        torch = sys.modules["torch"]
        torch.set_num_threads(before["torch.get_num_threads()"])
        torch.set_default_dtype(before["torch.get_default_dtype()"])
        torch.set_grad_enabled(before["torch.is_grad_enabled()"])


def pytest_sessionstart(session):
    """Kernels are compiled once, one process for each dtype, before the workers start, which would each compile all."""
    config = session.config
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", 0) or config.option.collectonly:
        return
    here = pathlib.Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")])}
    processes = [
        subprocess.Popen([sys.executable, str(here / "warm.py"), dtype], env=environment)
        for dtype in ("float32", "float64")
    ]
    for process in processes:
        process.wait()
