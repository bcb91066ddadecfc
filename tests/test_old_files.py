"""Files of format invnet-1, written by commit 1f01f29: every one loads for ever, and computes what it computed then."""

import pathlib
import re
import shutil
import sys

import numpy as np
import pytest

import invnet
from invnet.cli import main

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

import own_modules  # noqa: E402, F401  whose classes some files name
from make_invnet_1 import CASES, file_name, outputs  # noqa: E402

EXPECTED = np.load(FIXTURES / "invnet_1" / "expected.npz")
#: relative to the largest number of an output: rounding differs from processor to processor
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_0_1_computes_what_it_computed_then(name):
    expected = {key.split("/")[1]: EXPECTED[key] for key in EXPECTED.files if key.startswith(f"{name}/")}
    X, cond = expected.pop("X"), expected.pop("cond", None)
    module = invnet.load(FIXTURES / "invnet_1" / file_name(name))
    found = outputs(module, X, cond)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == array.dtype and found[key].shape == array.shape
        np.testing.assert_allclose(
            found[key], array, rtol=0, atol=TOLERANCE[array.dtype.name] * max(1, abs(array).max())
        )


def test_every_file_of_0_1_has_a_case():
    assert {file.name for file in (FIXTURES / "invnet_1").glob("*.safetensors")} == {file_name(name) for name in CASES}


@pytest.mark.own_seeds  # by which the files were made
@pytest.mark.parametrize("name", ["run", "run-additive"])
def test_a_training_of_0_1_goes_on_and_is_sampled_and_evaluated(name, tmp_path, capsys):
    run = tmp_path / name
    shutil.copytree(FIXTURES / name, run)
    assert main(["evaluate", str(run)]) == 0
    bits = lambda text: float(re.search(r"test bits/dim: ([\d.]+) this model", text)[1])
    assert abs(bits(capsys.readouterr().out) - bits((run / "evaluate.txt").read_text())) < 2e-3
    samples = invnet.Flow(invnet.load(run / "checkpoint.safetensors"), (1, 8, 8)).sample(4, seed=0)
    np.testing.assert_allclose(samples, np.load(run / "samples.npy"), rtol=0, atol=1e-4)
    assert (
        main(["sample", str(run), "-n", "4", "--out", str(tmp_path / "samples.png")]) == 0
        and (tmp_path / "samples.png").exists()
    )
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert "trained 150 steps" in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0  # what it wrote now, in the present format
