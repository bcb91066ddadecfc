"""The storing mode in ONNX: what another runtime makes of the exported program."""

import numpy as np
import pytest
import torch
from cases import LAYERS

import invnet
from invnet import bases
from invnet.torch import as_module

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

#: A row for each way of computing, and the inverses that take that of a matrix.
ROWS = [
    "RealNVP, 2 features",
    "Reverse of RealNVP, 2 features",
    "NSF, 2 features",
    "MAF, 2 features",
    "IAF, 2 features",
    "Logit",
    "Radial, 2 features",
    "ActNorm, 2 axes, 3 channels",
    "Conv1x1 householder, 2 axes, 3 channels",
    "Conv1x1 full, 2 axes, 3 channels",
    "Reverse of Conv1x1 lu, 2 axes, 3 channels",
    "AffineCoupling bounded, 2 axes, 3 channels",
    "Squeeze, 2 axes",
    "SplitTokens, rows, False",
]
NIGHTLY = ["Glow", "Reverse of Glow", "Glow, conditional", "RealNVP, mix", "NSF, mix", "Reverse of NSF, mix"]


def agrees(module, inputs, tmp_path, tolerance=1e-4):
    path = tmp_path / "module.onnx"
    torch.onnx.export(module, tuple(inputs), dynamo=True, verbose=False).save(path)
    session = onnxruntime.InferenceSession(path)
    outputs = session.run(None, {given.name: x.numpy() for given, x in zip(session.get_inputs(), inputs, strict=True)})
    expected = module(*inputs)
    for ours, theirs in zip(outputs, expected if isinstance(expected, tuple) else [expected], strict=True):
        np.testing.assert_allclose(ours, theirs.detach(), rtol=tolerance, atol=tolerance)


#: The rows of every day.
DAILY = ("RealNVP, 2 features", "Logit", "Conv1x1 full, 2 axes, 3 channels")


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=[] if name in DAILY else [pytest.mark.exhaustive]) for name in ROWS),
        *(pytest.param(name, marks=pytest.mark.nightly) for name in NIGHTLY),
    ],
)
def test_another_runtime_computes_the_same(name, tmp_path):
    layer, X, cond = LAYERS[name].build()
    module = as_module(layer.to(dtype="float32"), "store").eval()
    agrees(module, [torch.from_numpy(array).float() for array in (X, cond) if array is not None], tmp_path)


def test_a_flow_is_exported_with_its_base(tmp_path):
    flow = invnet.Flow(invnet.RealNVP(2, 8, 2), (2,), bases.GaussianMixture([[0.0, 1.0], [2.0, 0.0]]))
    agrees(as_module(flow, "store").eval(), [torch.randn(3, 2)], tmp_path)
