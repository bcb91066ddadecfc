"""Files: the same bits come back, a kill leaves the old file, and nothing foreign is taken."""

import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import invnet
from invnet import io
from invnet.layers import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    Conv1x1,
    FactorOut,
    Logit,
    Permute,
    Reverse,
    Squeeze,
    Unsqueeze,
)


class Mine(invnet.Module):
    """A user's module, with every kind of argument that a file can hold."""

    def __init__(self, *parts, number=1.5, text="a", flags=(True, None), array=None, seed=None):
        self.parts, self.values = parts, (number, text, tuple(flags), None if array is None else tuple(array))
        self.w = invnet.Parameter(np.random.default_rng(seed).standard_normal(3))


def everything():
    affine = AffineCoupling(4, invnet.ConvNet(2, 4, 4, seed=np.random.default_rng(3)), "sigmoid")
    additive = AdditiveCoupling(4, invnet.ConvNet(2, 3, 2, activation="silu"))
    inner = Reverse(Conv1x1(2, "lu", seed=np.random.default_rng(1)))
    mix = Conv1x1(4, "full", seed=2)
    return Chain(Squeeze(), ActNorm(4, floor=0.1), mix, affine, additive, FactorOut(4, inner), Unsqueeze())


NETS = {
    "Glow": (lambda: invnet.Glow(3, 8, 2, 2, seed=4), (2, 3, 8, 8)),
    "Glow in float64": (lambda: invnet.Glow(1, 4, 1, 1, mix="householder", dtype="float64"), (2, 1, 4, 4)),
    "Glow for vectors": (lambda: invnet.Glow(6, 8, 1, 2, ndim=0, coupling="additive", prior=False), (5, 6)),
    "Logit and Glow": (lambda: Chain(Logit(0.01), invnet.Glow(1, 4, 1, 2)), (2, 1, 4, 4)),
    "Permute": (lambda: Chain(Permute.random(12, seed=5), Permute([2, 0, 1] * 1 + list(range(3, 12)))), (2, 12, 2, 2)),
    "everything": (everything, (2, 1, 4, 4)),
    "RealNVP": (lambda: invnet.RealNVP(5, (8, 4), 3, mix="lu", actnorm=True), (4, 5)),
    "NSF": (lambda: invnet.NSF(3, 8, 3, bins=5, bound=2.0), (4, 3)),
    "NSF, autoregressive": (lambda: invnet.NSF(3, 8, 3, bins=5, autoregressive="forward"), (4, 3)),
    "planar, radial and element-wise layers": (
        lambda: Chain(
            invnet.PlanarFlow(2, 3),
            invnet.RadialFlow(2, 2, seed=np.random.default_rng(2)),
            invnet.LeakyReLU(0.2),
            invnet.Sigmoid(),
        ),
        (4, 2),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_model_comes_back_with_the_same_bits(tmp_path, name):
    make, shape = NETS[name]
    net, rng = make(), np.random.default_rng(0)
    X = rng.random(shape).astype(net.dtype or "float32")
    for p in net.parameters():
        p.data += 0.1 * rng.standard_normal(p.data.shape).astype(p.data.dtype)
    invnet.save(net, tmp_path / "net.safetensors")
    loaded = invnet.load(tmp_path / "net.safetensors")
    for a, b in zip(net.forward(X), loaded.forward(X)):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
    assert repr(loaded).split("(")[0] == repr(net).split("(")[0]
    saved, found = net.state_dict(), loaded.state_dict()
    assert saved.keys() == found.keys() and all((saved[name] == found[name]).all() for name in saved)


def test_a_model_that_was_turned_to_float64_comes_back_in_float64(tmp_path):
    net = invnet.Glow(1, 4, 1, 1).to(dtype="float64")
    invnet.save(net, tmp_path / "net")
    assert invnet.load(tmp_path / "net").dtype == np.float64


def test_a_users_own_module_comes_back_with_its_arguments(tmp_path):
    mine = Mine(
        Mine(seed=1), ActNorm(2), number=np.float32(2), text="ü", array=np.arange(3), seed=np.random.default_rng(0)
    )
    invnet.save(mine, tmp_path / "mine")
    loaded = invnet.load(tmp_path / "mine")
    assert loaded.values == (2.0, "ü", (True, None), (0, 1, 2)) and len(loaded.parts) == 2
    assert (loaded.w.data == mine.w.data).all() and (loaded.parts[0].w.data == mine.parts[0].w.data).all()


def test_arrays_and_texts_come_back_whatever_their_layout_and_dtype(tmp_path):
    arrays = {
        "a": np.arange(12).reshape(3, 4).T,
        "b": np.float64(0.1),
        "c": np.zeros((0, 2), np.uint8),
        "d": np.arange(6.0)[::2],
    }
    text = {"x": {"y": [1, 2.5, None, "z"]}, "big": 2**127, "infinity": float("inf")}
    io.write(tmp_path / "file", arrays, text)
    found, said = io.read(tmp_path / "file")
    assert said == text and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape and (found[name] == array).all()


# A kill


def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    io.write(path, {"a": np.zeros(3)}, {})
    before = path.read_bytes()
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
            patch.setattr(os, name, lambda *_: (_ for _ in ()).throw(OSError("disk full")))
            io.write(path, {"a": np.ones(3)}, {})
        assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_at_any_moment_of_writing_leaves_the_old_file_whole(tmp_path, moment):
    path = tmp_path / "file"
    io.write(path, {"a": np.zeros(3)}, {"old": True})
    script = f"""
        import os, signal, sys
        import numpy as np
        from invnet import io
        os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        io.write(sys.argv[1], {{"a": np.ones(1000)}}, {{"old": False}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True)
    assert done.returncode == -9, done.stderr
    arrays, text = io.read(path)
    assert text == {"old": True} and (arrays["a"] == 0).all()


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    io.write(tmp_path / "file", {}, {})
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Foreign and damaged files


def foreign(path):
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3, "float32")}, path)


def rewritten(change):
    """A good file with changed metadata, and a checksum that fits it: made on purpose, not by a broken disk."""

    def make(path):
        invnet.save(ActNorm(2), path)
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        metadata = header["__metadata__"]
        change(metadata)
        arrays = ActNorm(2).state_dict()
        metadata["digest"] = invnet.io.digest(
            arrays, {k: v for k, v in metadata.items() if k not in ("format", "digest")}
        )
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return make


def cut(at):
    def make(path):
        invnet.save(ActNorm(2), path)
        path.write_bytes(path.read_bytes()[:at])

    return make


def flipped(byte):
    def make(path):
        invnet.save(ActNorm(2), path)
        data = bytearray(path.read_bytes())
        data[byte] ^= 1
        path.write_bytes(data)

    return make


def architecture(description):
    return rewritten(lambda metadata: metadata.update(architecture=json.dumps(description)))


def described(name, **arguments):
    return {"class": name, "arguments": arguments}


class Trap:
    """Leaves a mark if it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("trap",))


BAD = {
    "missing": (lambda path: None, FileNotFoundError, "no file"),
    "empty": (lambda path: path.write_bytes(b""), ValueError, "damaged or no safetensors"),
    "text": (lambda path: path.write_text("weights " * 100), ValueError, "damaged or no safetensors"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Trap())), ValueError, "damaged or no safetensors"),
    "cut in the length": (cut(5), ValueError, "damaged"),
    "cut in the header": (cut(60), ValueError, "damaged"),
    "cut in the arrays": (cut(-3), ValueError, "damaged"),
    "another library's": (foreign, ValueError, "not written by invnet: its format is None"),
    "another format": (
        rewritten(lambda m: m.update(format="invnet-9")),
        ValueError,
        "a newer version of invnet: .*'invnet-9'; .*reads invnet-1 and invnet-2",
    ),
    "no model": (lambda path: io.write(path, {"a": np.zeros(2)}, {"b": 1}), ValueError, r"no model.*\['b'\]"),
    "a bit flipped in the weights": (flipped(-1), ValueError, "damaged: its checksum"),
    "a bit flipped in the header": (flipped(40), ValueError, "damaged|not written by invnet"),
    "metadata cut": (rewritten(lambda m: m.update(architecture=m["architecture"][:-5])), ValueError, "damaged"),
    "unknown class": (
        architecture(described("os.system", command="true")),
        ValueError,
        "'os.system' is unknown; import",
    ),
    "class that is no Module": (
        architecture(described("builtins.eval", source="1")),
        ValueError,
        "'builtins.eval' is unknown",
    ),
    "unknown argument": (architecture(described("invnet.ActNorm", channels=2, colour=1)), ValueError, "colour"),
    "architecture of another form": (architecture({"layers": 3}), ValueError, "class, a text, and arguments"),
    "architecture that is no model": (architecture(3), ValueError, "no model"),
    "other names": (architecture(described("invnet.Logit", alpha=0.05)), ValueError, "does not fit its architecture"),
    "other shapes": (
        architecture(described("invnet.ActNorm", channels=3, floor=1e-4, dtype="float32")),
        ValueError,
        "has shape",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_file_of_ours_is_refused_and_never_unpickled(tmp_path, monkeypatch, name):
    make, error, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "net")
    with pytest.raises(error, match=message):
        invnet.load(tmp_path / "net")
    assert not (tmp_path / "trap").exists()


def test_a_model_with_an_argument_that_no_file_can_hold_is_not_written(tmp_path):
    with pytest.raises(TypeError, match="numbers, texts, arrays.*<object"):
        invnet.save(Mine(number=object()), tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*none to write net"):
        invnet.save(ActNorm(2), tmp_path / "none" / "net")


def test_layers_that_are_shared_stay_shared(tmp_path):
    shared, prior = Conv1x1(3), ActNorm(3)
    net = invnet.Chain(shared, prior, invnet.Reverse(shared), invnet.Chain(prior))
    invnet.save(net, tmp_path / "file")
    loaded = invnet.load(tmp_path / "file")
    assert loaded.layers[2].layer is loaded.layers[0] and loaded.layers[3].layers[0] is loaded.layers[1]
    assert len(loaded.parameters()) == len(net.parameters())


@pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), "float64"], ids=str)
def test_a_dtype_is_written_by_its_name(dtype, tmp_path):
    invnet.save(ActNorm(2, dtype=dtype), tmp_path / "file")
    assert invnet.load(tmp_path / "file").dtype == np.float64
