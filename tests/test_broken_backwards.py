"""The proof that the proof can fail: with one term of a hand-written gradient broken, the comparison with autograd fails.

tests/mutants.py breaks the terms. A function that is as it was when all its mutants were found is left to
`make test-all`; what has changed since is broken every day, and so is one term of each kind of function.
"""

import mutants
import pytest

CHANGED = set(mutants.changed_targets())

#: A function of each kind, one sign of which is flipped every day.
SAMPLES = [
    "invnet.layers.actnorm:ActNorm.affine.pullback",
    "invnet.layers.conv1x1:Conv1x1._householder.pullback",
    "invnet.layers.transforms.affine:Affine.backward_",
    "invnet.layers.planar:Planar.backward_",
    "invnet.nets.conv:ConvNet.vjp.pullback",
    "invnet.losses:gaussian_nll",
    "invnet.ops.reference.spline:Splines.spline_vjp",
    "invnet.ops.numpy.kernels.affine:couple_vjp",
    "invnet.ops.numpy.kernels.planar:planar_vjp",
    "invnet.ops.torch.conv_stack:_convolve_vjp",
]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(
            target, id=target.removeprefix("invnet."), marks=[] if target in CHANGED else [pytest.mark.exhaustive]
        )
        for target in mutants.targets()
    ],
)
def test_every_broken_term_is_found(target):
    left, counts = mutants.surviving(target)
    assert not left, f"no case finds {[mutant.change for mutant in left]}: {counts}"


@pytest.mark.parametrize("target", SAMPLES)
def test_a_broken_term_of_each_kind_is_found(target):
    known = mutants.EQUIVALENT.get(target, {})
    _, at, new = next(
        each for each in mutants.mutants(target) if each[0].kind == "sign" and each[0].change not in known
    )
    assert mutants.fate_of(target, at, new) == "found"


def test_equivalents_are_mutants_of_today():
    unknown = {
        target: set(known) - {mutant.change for mutant, *_ in mutants.mutants(target)}
        for target, known in mutants.EQUIVALENT.items()
        if target in mutants.targets()
    }
    assert not any(unknown.values()), unknown


def test_the_baseline_names_functions_of_today():
    assert not set(mutants.baseline()) - set(mutants.targets())
