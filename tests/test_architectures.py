"""What a file says of the model it holds: public names, every argument, and errors for what does not fit."""

import ast
import inspect
import json
import pathlib
import pkgutil
import sys

import numpy as np
import pytest

import invnet
import invnet.torch
from invnet import architecture, io
from invnet.core import Module

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

from make_invnet_1 import CASES, file_name, outputs  # noqa: E402
from test_old_files import EXPECTED  # noqa: E402

LOADED = {name: FIXTURES / "invnet_1" / file_name(name) for name in CASES}

#: what a user meets under a public name and is not saved: contracts that a subclass fulfils, TorchNet, whose module no
#: file holds, and FusedGroup, which a Chain makes of its layers
CONTRACTS = {"Base", "FusedGroup", "InPlaceLayer", "Isometry", "Layer", "Module", "Conditioner", "TorchNet"}
#: where None is itself what is meant, and no default that stands for something else; or a start value, which the file's
#: arrays replace
NONE_IS_MEANT = {
    ("FactorOut", "prior"),
    ("SplineCoupling", "tails"),
    ("AutoregressiveSpline", "tails"),
    ("NSF", "autoregressive"),
    ("FullNormal", "covariance"),
    ("GaussianMixture", "weights"),
}


def public_classes():
    """Every Module that a package of invnet offers under a name without an underscore."""
    packages = [
        invnet,
        *(
            sys.modules[f"invnet.{name}"]
            for _, name, is_package in pkgutil.iter_modules(invnet.__path__)
            if is_package and f"invnet.{name}" in sys.modules
        ),
    ]
    return {
        cls
        for package in packages
        for name, cls in vars(package).items()
        if name[0] != "_" and inspect.isclass(cls) and issubclass(cls, Module)
    }


def every_class(description):
    """(name, arguments) of every module in a description."""
    if isinstance(description, list):
        for item in description:
            yield from every_class(item)
    elif isinstance(description, dict) and "class" in description:
        yield description["class"], description["arguments"]
        yield from every_class(list(description["arguments"].values()))


def test_every_public_class_is_reached_by_its_public_name():
    classes = public_classes()
    assert {"Glow", "AffineCoupling", "ConvNet", "Uniform", "Flow", "TorchNet"} <= {cls.__name__ for cls in classes}
    for cls in classes - {Module}:
        name = architecture.name_of(cls)
        package, _, last = name.rpartition(".")
        assert package.count(".") <= 1 and getattr(sys.modules[package], last) is cls, name
        assert architecture.known_classes()[name] is cls


def test_every_public_class_is_in_a_file_of_before():
    """One that is new gets a file as well: in the next set of fixtures."""
    found = {
        name.rpartition(".")[2] for path in LOADED.values() for name, _ in every_class(io.read(path)[1]["architecture"])
    }
    assert {cls.__name__ for cls in public_classes()} - CONTRACTS <= found


@pytest.mark.parametrize("name", CASES)
def test_a_file_has_public_names_and_every_argument_that_the_constructor_takes(name):
    module = invnet.load(LOADED[name])
    text = json.dumps(architecture.describe(module))
    for kind, arguments in every_class(json.loads(text)):
        assert kind.startswith("own_modules.") or (kind.startswith("invnet.") and kind.count(".") == 1)
        cls = architecture.known_classes()[kind]
        taken = (
            {}
            if cls.__init__ is object.__init__
            else dict(list(inspect.signature(cls.__init__).parameters.items())[1:])
        )
        assert arguments.keys() == taken.keys(), kind


@pytest.mark.parametrize("name", CASES)
def test_a_default_that_changes_changes_no_file(name, tmp_path, monkeypatch):
    """Of every class of the library, every default becomes something that no constructor can take."""
    module = invnet.load(LOADED[name])
    invnet.save(module, tmp_path / "new")
    for cls in public_classes():
        if "__init__" in vars(cls) and cls.__name__ not in CONTRACTS:
            if cls.__init__.__defaults__:
                monkeypatch.setattr(cls.__init__, "__defaults__", (object(),) * len(cls.__init__.__defaults__))
            if cls.__init__.__kwdefaults__:
                monkeypatch.setattr(
                    cls.__init__, "__kwdefaults__", dict.fromkeys(cls.__init__.__kwdefaults__, object())
                )
    found = {}
    monkeypatch.setattr(
        architecture, "construct", lambda cls, repeated, arguments: found.update({cls: arguments}) or module
    )
    for path in (tmp_path / "new", LOADED[name]):
        invnet.load(path)
        assert not any(type(value) is object for arguments in found.values() for value in arguments.values())


@pytest.mark.parametrize("name", CASES)
def test_what_none_stands_for_is_in_the_file(name):
    for kind, arguments in every_class(architecture.describe(invnet.load(LOADED[name]))):
        if kind.startswith("own_modules."):
            continue
        for argument, value in arguments.items():
            known = (kind.rpartition(".")[2], argument) in NONE_IS_MEANT
            assert value is not None or known or has_no_effect(kind.rpartition(".")[2], argument, arguments), (
                kind,
                argument,
            )


def has_no_effect(kind, argument, arguments):
    """Whether an argument of None is one that is not to be given beside the others."""
    if argument == "seed":
        return True  # a Generator was given: the weights that it drew are in the file
    if kind in ("AdditiveCoupling", "AffineCoupling", "SplineCoupling", "AutoregressiveAffine", "AutoregressiveSpline"):
        making = ("hidden", "ndim", "cond_channels", "dtype")
        if argument in making or argument == "net":
            return (arguments["net"] is None) == (argument == "net")
    if argument == "depth":
        return isinstance(arguments["hidden"], list)
    if argument == "reflections":
        return arguments["parametrisation"] != "householder"
    if kind == "Glow":
        several = arguments["levels"] > 1
        affine = arguments["coupling"] == "affine" or (several and arguments["prior"])
        if argument == "prior":
            return not several
        if argument == "scale":
            return not affine
        return argument == "bound" and (not affine or arguments["scale"] != "bounded")
    return argument == "bound" and arguments["scale"] != "bounded"


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_before_comes_back_from_the_present_format(name, tmp_path):
    module = invnet.load(LOADED[name])
    invnet.save(module, tmp_path / "new")
    again = invnet.load(tmp_path / "new")
    X, cond = EXPECTED[f"{name}/X"], EXPECTED[f"{name}/cond"] if f"{name}/cond" in EXPECTED.files else None
    for a, b in zip(outputs(module, X, cond).values(), outputs(again, X, cond).values()):
        assert a.tobytes() == b.tobytes()
    assert architecture.describe(again) == architecture.describe(module)


def test_what_was_loaded_prints_what_was_given(tmp_path):
    """Not every argument that the file has: those that are as their defaults are left out, as they are of what is
    new.
    """
    for module in (
        invnet.Planar(3),
        invnet.NSF(3, 8, 2, bins=4, depth=1),
        invnet.ConvNet(2, 4, 3),
        invnet.Chain(invnet.ActNorm(2), invnet.Logit(0.1)),
    ):
        invnet.save(module, tmp_path / "file")
        assert repr(invnet.load(tmp_path / "file")) == repr(module)


class Grown(Module):
    """A user's class, which has gained an argument since a file of it was written."""

    def __init__(self, size, later=3):
        self.w, self.later = invnet.Parameter(np.zeros(size)), later


def rewritten(path, module, change):
    """A file of `module` whose architecture was changed."""
    description = architecture.describe(module)
    change(description)
    io.write(path, module.state_dict(), {"architecture": description})


def test_a_users_class_may_gain_an_argument(tmp_path):
    rewritten(tmp_path / "grown", Grown(2), lambda d: d["arguments"].pop("later"))
    assert invnet.load(tmp_path / "grown").later == 3


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["arguments"].pop("channels"), r"invnet.ActNorm takes channels, floor, dtype; .* lacks channels"),
        (lambda d: d["arguments"].pop("floor"), r"takes channels, floor, dtype; .* lacks floor"),
        (lambda d: d["arguments"].update(colour=1), r"takes channels, floor, dtype; .* has colour too"),
        (lambda d: d.update({"class": "invnet.ActNrm"}), "'invnet.ActNrm' is no class of this version of invnet"),
        (lambda d: d.update({"class": "mine.ActNorm"}), "'mine.ActNorm' is unknown; import the module"),
        (lambda d: d.update({"class": "invnet.core.module.Module"}), "'invnet.core.module.Module' is no class"),
        (lambda d: d.update({"class": ["os"]}), r"an architecture has class, a text, and arguments.*\['os'\]"),
        (lambda d: d.update(arguments=[1]), r"an architecture has class, a text, and arguments"),
        (lambda d: d.pop("arguments"), r"an architecture has class, a text, and arguments"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_the_classes_says_what_was_required_and_what_came(tmp_path, change, message):
    rewritten(tmp_path / "file", invnet.ActNorm(2), change)
    with pytest.raises(ValueError, match=message):
        invnet.load(tmp_path / "file")


def test_a_class_that_is_private_to_the_library_is_not_written(tmp_path):
    from invnet.layers.channel_affine import Folded

    with pytest.raises(TypeError, match="Folded.*private"):
        invnet.save(Folded([invnet.ActNorm(2), invnet.ActNorm(2)]), tmp_path / "file")


def test_conditioners_know_no_layers():
    """Couplings make conditioners: an import the other way would be a cycle."""
    for file in pathlib.Path(invnet.nets.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and "layers" in (node.module or "")), file.name
