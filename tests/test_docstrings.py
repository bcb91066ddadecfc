"""Examples in docstrings run, and give what they say."""

import doctest
import importlib

import pytest

import invnet

MODULES = sorted({getattr(invnet.models, name).__module__ for name in invnet.models.__all__})


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", invnet.models.__all__)
def test_every_model_has_an_example(name):
    assert ">>> " in getattr(invnet.models, name).__doc__
