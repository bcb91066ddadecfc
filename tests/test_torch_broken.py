"""With one term broken in what carries gradients to PyTorch and back, the tests of the bridge fail; see
test_broken_backwards.py.
"""

import warnings

import numpy as np
import pytest
import test_torch_flow as flow_tests
import test_torch_module as module_tests
import test_torch_net as net_tests
import test_torch_submodules as submodule_tests
from rewriting import install, mutant
from torch.autograd.gradcheck import GradcheckError

import invnet

MODULE, SHARE = "invnet.torch.module:", "invnet.torch.share:"
NET, THROUGH, REPLAY, RANDOM = (
    "invnet.torch.net:",
    "invnet.torch.through:",
    "invnet.passes.replay:",
    "invnet.torch.randomness:",
)


@pytest.fixture(autouse=True)
def threads():
    before = invnet.num_threads()
    yield
    invnet.set_num_threads(before)


def net():
    module, layer, X, cond = net_tests.made("U-Net, condition", 2)
    net_tests.gradients_agree(module, layer, X, cond)


def dropout():
    module, layer, X = net_tests.dropped()
    X = net_tests.many_tiles(layer, X)
    layer.drift_tolerance = None  # or X would be computed again
    Z, _ = layer.forward(X)
    np.testing.assert_allclose(layer.backward(Z, Z)[1], X, atol=1e-9)


def norms():
    net_tests.test_batch_norm_is_updated_once_in_a_step(0)


def module():
    module_tests.test_gradients_are_those_of_differences("numpy", False)


def alone():
    module_tests.test_only_z_or_only_logdet_or_nothing_in_the_loss()


def adds_up():
    module_tests.test_backward_twice_adds_up()


def masks():
    with pytest.MonkeyPatch.context() as monkeypatch:
        module_tests.test_both_modes_draw_the_same_masks("numpy", 150, 8, None, monkeypatch)


def hooks():
    submodule_tests.test_hooks_reach_it("rebuild")


def functional_call():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of drift: X cannot be rebuilt with other weights
        submodule_tests.test_functional_call_leaves_its_weights_alone("numpy")


def samples():
    flow_tests.test_samples_have_gradients_in_everything_learned("DiagonalNormal")


def densities():
    flow_tests.test_densities_and_their_gradients_are_those_of_the_flow("FullNormal", "numpy")


MUTATIONS = [  # function, piece, replacement, what fails then
    (f"{NET}TorchNet._vjp.pullback", "tensor_of(dy).clone()", "2 * tensor_of(dy)", net),
    (f"{NET}TorchNet._vjp.pullback", "return arrays[0]", "return 0 * arrays[0]", net),
    (f"{NET}TorchNet._vjp.pullback", "else arrays[1]", "else 0 * arrays[1]", net),
    (f"{NET}TorchNet._vjp.pullback", "arrays[len(inputs):]", "[0 * array for array in arrays[len(inputs):]]", net),
    (f"{NET}TorchNet._still_norms", "if again and", "if not again and", norms),
    (f"{RANDOM}Draw.run", "self.seed + tile", "int(torch.randint(99, ()))", dropout),
    (f"{REPLAY}RngReplay.random_state_of", "self.recorded[i][1], True", "self.recorded[0][1], True", dropout),
    (f"{NET}TorchNet._recorded", "draw, i)", "draw, 0)", masks),
    (f"{SHARE}holding", "share.inner or own", "own", hooks),
    (f"{SHARE}holding", "share.put(tensor.detach().requires_grad_(tensor.requires_grad))", "pass", functional_call),
    (f"{SHARE}Share.put", "self.places", "self.places[:1]", functional_call),
    (f"{MODULE}FlowModule.sample_and_log_prob", "- logdet", "+ logdet", samples),
    (f"{MODULE}FlowModule.log_prob", "self._base_log_prob(z)", "self._base_log_prob(z.detach())", densities),
    (f"{THROUGH}_gradients_of", "0.0 if dlogdet is None", "None if dlogdet is None", alone),
    (f"{THROUGH}_gradients_of", "tensor_of(c.grad)", "0 * tensor_of(c.grad)", module),
    (f"{THROUGH}_gradients_of", "tensor_of(dX)", "0 * tensor_of(dX)", module),
    (
        f"{THROUGH}_gradients_of",
        "(tensor_of(gradients",
        "(0 * tensor_of(gradients",
        module,
    ),
    (
        f"{THROUGH}_gradients_of",
        "with context:",
        "if True:",
        adds_up,
    ),
]


@pytest.mark.parametrize(
    "target, piece, replacement, fails",
    MUTATIONS,
    ids=[f"{row[0].partition(':')[2]}: {row[1].strip()}" for row in MUTATIONS],
)
def test_a_broken_term_is_found(target, piece, replacement, fails, monkeypatch):
    install(monkeypatch, *mutant(target, piece, piece))
    fails()  # making the copy is not what breaks it
    install(monkeypatch, *mutant(target, piece, replacement))
    with pytest.raises((AssertionError, GradcheckError)):
        fails()
