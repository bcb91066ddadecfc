"""Optimizers against PyTorch's; schedules, clipping and the moving average."""

import math

import numpy as np
import pytest

from invnet import optim
from invnet.core import Parameter

torch = pytest.importorskip("torch")

PAIRS = {
    "SGD": (lambda p: optim.SGD(p, 0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "SGD with momentum": (lambda p: optim.SGD(p, 0.05, momentum=0.9), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
    "Adam": (lambda p: optim.Adam(p, 0.03), lambda p: torch.optim.Adam(p, 0.03)),
    "Adam, other betas": (
        lambda p: optim.Adam(p, 0.03, (0.8, 0.9), 0.1),
        lambda p: torch.optim.Adam(p, 0.03, (0.8, 0.9), 0.1),
    ),
    "AdamW": (lambda p: optim.Adam(p, 0.03, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.03, weight_decay=0.1)),
    "Adamax": (lambda p: optim.Adamax(p, 0.03), lambda p: torch.optim.Adamax(p, 0.03)),
    "RMSprop": (lambda p: optim.RMSprop(p, 0.03), lambda p: torch.optim.RMSprop(p, 0.03)),
    "RMSprop, large eps": (
        lambda p: optim.RMSprop(p, 0.03, 0.9, 0.1),
        lambda p: torch.optim.RMSprop(p, 0.03, 0.9, 0.1),
    ),
}


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return [Parameter(rng.standard_normal(shape)) for shape in ((3, 2), (4,), ())]


@pytest.mark.parametrize("name", PAIRS)
def test_50_steps_are_those_of_torch(name):
    ours, theirs = parameters(), [torch.tensor(p.data.copy(), requires_grad=True) for p in parameters()]
    optimizers = PAIRS[name][0](ours), PAIRS[name][1](theirs)
    rng = np.random.default_rng(1)
    for _ in range(50):
        for p, q in zip(ours, theirs):
            g = rng.standard_normal(p.data.shape) * 10.0 ** rng.integers(-6, 3)
            p.grad[...] = g
            q.grad = torch.tensor(g)
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_an_optimizer_goes_on_from_its_state_with_the_same_bits(name):
    straight, stopped = parameters(), parameters()
    a, b = PAIRS[name][0](straight), PAIRS[name][0](stopped)
    rng = np.random.default_rng(1)
    for step in range(6):
        if step == 3:
            state = b.state_dict()
            b = PAIRS[name][0](stopped)
            b.load_state_dict(state)
        for p, q in zip(straight, stopped):
            p.grad[...] = q.grad[...] = rng.standard_normal(p.data.shape)
        a.step()
        b.step()
    assert all((p.data == q.data).all() for p, q in zip(straight, stopped))


def test_the_schedule_warms_up_step_by_step_decays_and_ends_at_zero():
    warm = optim.schedule(2.0, warmup=4)
    assert [warm(i) for i in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    decayed = optim.schedule(2.0, warmup=2, decay=0.5)
    assert [decayed(i) for i in range(5)] == [1.0, 2.0, 2.0, 1.0, 0.5]
    cosine = optim.schedule(2.0, cosine=4)
    np.testing.assert_allclose(
        [cosine(i) for i in range(6)], [2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5), 0, 0], atol=1e-15
    )


def test_a_scheduled_optimizer_asks_for_the_rate_of_each_step():
    p = Parameter(np.zeros(1))
    optimizer = optim.SGD([p], optim.schedule(1.0, warmup=4))
    for _ in range(3):
        p.grad[...] = -1
        optimizer.step()
    assert p.data == 0.25 + 0.5 + 0.75


def test_clipping_scales_all_gradients_together():
    ps = parameters()
    for p in ps:
        p.grad[...] = p.data
    norm = math.sqrt(sum((p.data**2).sum() for p in ps))
    assert math.isclose(optim.clip_by_global_norm(ps, 2 * norm), norm)
    assert all((p.grad == p.data).all() for p in ps)
    assert math.isclose(optim.clip_by_global_norm(ps, norm / 4), norm)
    for p in ps:
        np.testing.assert_allclose(p.grad, p.data / 4, rtol=1e-14)


def test_clipping_leaves_gradients_that_are_not_finite():
    p = Parameter(np.zeros(2))
    p.grad[...] = [1.0, math.inf]
    assert optim.clip_by_global_norm([p], 1.0) == math.inf
    assert p.grad.tolist() == [1.0, math.inf]


def test_the_average_follows_its_formula_and_its_state():
    p = Parameter(np.array([1.0]))
    ema, expected = optim.EMA([p], 0.3), 1.0
    for step in range(8):
        p.data += step
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * float(p.data[0])
        ema.update()
        other = optim.EMA([p], 0.3)
        other.load_state_dict(ema.state_dict())
        ema = other
    assert math.isclose(ema.average[0][0], expected, rel_tol=1e-14)


def test_the_average_stands_in_for_the_weights_and_leaves_again():
    p = Parameter(np.array([1.0]))
    ema = optim.EMA([p], 0.9)
    p.data[...] = 5.0
    with pytest.raises(KeyError), ema.weights():
        assert p.data == 1.0
        raise KeyError
    assert p.data == 5.0


def test_without_decay_the_average_is_the_weights():
    p = Parameter(np.array([1.0]))
    ema = optim.EMA([p], 0.0)
    p.data[...] = 0.1
    ema.update()
    assert ema.average[0] == 0.1


def loaded(one, other):
    one.load_state_dict(other.state_dict())


MISTAKES = {
    "no parameters": (lambda: optim.Adam([]), "at least one"),
    "rate": (lambda: optim.Adam(parameters(), 0.0), "positive.*0.0"),
    "dtypes": (lambda: optim.SGD([Parameter(np.zeros(2)), Parameter(np.zeros(2, "float32"))]), "one dtype"),
    "state of another": (lambda: loaded(optim.Adam(parameters()), optim.SGD(parameters())), "Adam.*velocity"),
    "state of another size": (lambda: loaded(optim.SGD(parameters()), optim.SGD(parameters()[:1])), "11"),
    "decay of the schedule": (lambda: optim.schedule(1.0, decay=1.5), "1.5"),
    "warm-up": (lambda: optim.schedule(1.0, warmup=-1), "-1"),
    "cosine": (lambda: optim.schedule(1.0, cosine=0), "cosine=0"),
    "norm": (lambda: optim.clip_by_global_norm(parameters(), 0), "positive.*0"),
    "decay of the average": (lambda: optim.EMA(parameters(), 1.0), "below 1.*1.0"),
    "average of others": (lambda: loaded(optim.EMA(parameters()), optim.EMA(parameters()[:1])), "3 averages"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_an_error_that_says_what_was_required_and_what_came(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        call()
