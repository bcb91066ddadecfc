"""Compiling takes a while and says so: one line, where kernels are really compiled, in one process of several."""

import os
import subprocess
import sys

import pytest

LINE = "invnet: compiling kernels for this processor"
TWO_KERNELS = "from invnet.ops.numpy.kernels.simple import adam, add; add('f'); adam('f')"
OWN = "import numba, invnet.ops.numpy.compilation_notice as notice\nwith notice.announced(): numba.njit('f8(f8)')(lambda x: x + 1)"
CHILD = """
import multiprocessing, sys
from invnet.ops.numpy.kernels.simple import add

def compile():
    add("f")

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=compile)
    child.start()
    child.join()
    assert child.exitcode == 0
"""


def stderr_of(cache, *arguments, **environment):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_CACHE_DIR": str(cache), **environment}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_the_first_process_says_once_that_it_compiles_and_the_next_is_silent(tmp_path):
    (line,) = stderr_of(tmp_path, "-c", TWO_KERNELS)
    assert line.startswith(LINE) and "seconds" in line
    assert stderr_of(tmp_path, "-c", TWO_KERNELS) == []


@pytest.mark.parametrize("logger", [pytest.param("invnet", marks=pytest.mark.exhaustive), "invnet.compile"])
def test_a_logger_silences_it(tmp_path, logger):
    assert (
        stderr_of(tmp_path, "-c", f"import logging; logging.getLogger('{logger}').setLevel('ERROR'); {TWO_KERNELS}")
        == []
    )


@pytest.mark.exhaustive
def test_of_several_ranks_the_first_says_it(tmp_path):
    assert stderr_of(tmp_path / "1", "-c", TWO_KERNELS, LOCAL_RANK="1") == []
    assert len(stderr_of(tmp_path / "0", "-c", TWO_KERNELS, LOCAL_RANK="0")) == 1


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.exhaustive
def test_worker_processes_are_silent(tmp_path, method):
    (tmp_path / "child.py").write_text(CHILD)
    assert stderr_of(tmp_path / "cache", str(tmp_path / "child.py"), method) == []
    assert any((tmp_path / "cache").rglob("*add*")), "nothing was compiled"


@pytest.mark.exhaustive
def test_functions_of_others_are_not_announced(tmp_path):
    assert stderr_of(tmp_path, "-c", OWN) == []
