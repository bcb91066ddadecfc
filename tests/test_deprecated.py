"""Old names work until 0.3, are what has taken their place, and warn."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

import invnet

#: (module, old name): the path of what has taken its place
NAMES = {
    ("invnet", "Net"): "invnet.Conditioner",
    ("invnet", "Staircase"): "invnet.PartitionedAdditiveCoupling",
    ("invnet.core", "Net"): "invnet.Conditioner",
    ("invnet.layers", "Staircase"): "invnet.PartitionedAdditiveCoupling",
    ("invnet.inference", "pullback"): "invnet.inference.inverse_pushforward",
    **{
        ("invnet.losses", name): f"invnet.objectives.{name}"
        for name in ("annealing", "forward_kl", "from_differences", "from_jax", "from_torch", "reverse_kl")
    },
}
MODULES = {
    "invnet.ops.torch_engine": "invnet.ops.torch",
    "invnet.inference.rxinfer": "invnet.inference.tutorial",
}


@pytest.mark.parametrize("module, name", NAMES)
def test_an_old_name_is_the_new_one_and_warns(module, name):
    path, _, new = NAMES[module, name].rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{name} is .*{new} now; the old name goes with invnet 0.3"):
        old = getattr(importlib.import_module(module), name)
    assert old is getattr(importlib.import_module(path), new)


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_is_the_new_one_and_warns(old):
    code = f"import {old}; import {MODULES[old]} as new; import sys; assert sys.modules['{old}'] is new"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{old} is {MODULES[old]} now" in done.stderr


def test_the_old_hooks_of_a_conditioner_are_found():
    with pytest.warns(DeprecationWarning, match="is (rng_state|with_rng) now") as found:

        class Own(invnet.Conditioner):
            def draw(self):
                return 3

            def drawn(self, draw, tile, again):
                return self

    assert len(found) == 2 and Own().rng_state() == 3 and Own().with_rng(3, None, True) is not None


def test_unknown_names_are_no_old_ones():
    with pytest.raises(AttributeError, match="has no attribute 'Nett'"):
        invnet.Nett  # noqa: B018
    assert np.isfinite(invnet.losses.bits_per_dim(1.0, 2))
