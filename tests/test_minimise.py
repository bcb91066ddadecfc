"""The optimizers on functions whose minimum is known, and the line search by its own conditions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invnet import Parameter
from invnet.inference import minimise, tutorial
from invnet.inference.line_search import HagerZhang


def bowl():
    """(a - 1)^2 + 10 (b - 2)^2 + 3 of two parameters."""
    parameters = [Parameter(np.zeros(1)), Parameter(np.zeros((1, 1)))]

    def objective():
        a, b = parameters
        a.grad += 2 * (a.data - 1)
        b.grad += 20 * (b.data - 2)
        return float(((a.data - 1) ** 2).sum() + 10 * ((b.data - 2) ** 2).sum() + 3)

    return objective, parameters


@pytest.mark.parametrize(
    "optimizer, options",
    [("lbfgs", {}), ("gradient_descent", {"tol": 1e-14}), ("adam", {"iterations": 2000, "lr": 0.05})],
)
def test_the_minimum_of_a_bowl(optimizer, options):
    objective, (a, b) = bowl()
    minimum = minimise(objective, [a, b], optimizer, **options)
    assert minimum.value == pytest.approx(3, abs=1e-9)
    np.testing.assert_allclose([a.data.item(), b.data.item()], [1, 2], atol=1e-4)
    assert minimum.history[0] == pytest.approx((44, 40)) and minimum.history[-1][0] == pytest.approx(minimum.value)
    assert len(minimum.history) == minimum.iterations + 1 and minimum.calls > 1
    assert a.grad == 0 and b.grad == 0


def test_gradients_of_before_do_not_count():
    objective, (a, b) = bowl()
    a.grad[...] = b.grad[...] = 100
    assert minimise(objective, [a, b]).history[0] == pytest.approx((44, 40))


def test_the_first_step_of_adam_is_its_learning_rate_in_every_coordinate():
    objective, parameters = bowl()
    minimise(objective, parameters, "adam", iterations=1, lr=0.1)
    np.testing.assert_allclose([parameter.data.item() for parameter in parameters], 0.1, rtol=1e-8)
    objective, parameters = bowl()
    optimizer = tutorial.Adam(parameters, 0.1)
    objective()
    optimizer.step()
    np.testing.assert_allclose([parameter.data.item() for parameter in parameters], 0.1, rtol=1e-15)


def test_gradient_descent_stops_after_two_small_steps():
    objective, parameters = bowl()
    loose = minimise(objective, parameters, "gradient_descent", tol=0.5)
    values = [value for value, _ in loose.history]
    small = [abs(a - b) <= 0.5 * abs(b) for a, b in zip(values, values[1:])]
    assert small[-2:] == [True, True] and not any(x and y for x, y in zip(small[:-1], small[1:-1]))


def test_where_the_function_is_not_finite_the_first_step_shrinks():
    steps = []

    def wall(step):
        steps.append(step)
        return ((step - 0.004) ** 2, 2 * (step - 0.004)) if step < 0.005 else (math.nan, math.nan)

    assert HagerZhang()(wall, 1.6e-5, -8e-3, 1.0) == pytest.approx(0.004)
    np.testing.assert_allclose(steps[:4], [1, 0.1, 0.01, 0.001])


LINES = {
    "quadratic": (lambda c, k: (k * c * c - c, 2 * k * c - 1), 0.0, -1.0),
    "quartic": (lambda c, k: ((c - k) ** 4 + (c - k) ** 2, 4 * (c - k) ** 3 + 2 * (c - k)), None, None),
    "waves": (lambda c, k: (c * c / 50 - math.sin(k * c), c / 25 - k * math.cos(k * c)), 0.0, None),
    "logarithm": (lambda c, k: (math.log1p((c - k) ** 2), 2 * (c - k) / (1 + (c - k) ** 2)), None, None),
}


@pytest.mark.parametrize("line", LINES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(k=st.floats(0.05, 20), first=st.floats(1e-4, 1e3))
def test_a_step_satisfies_the_conditions(line, k, first):
    function = LINES[line][0]
    value, slope = function(0.0, k)
    found = HagerZhang()(lambda c: function(c, k), value, slope, first)
    value_there, slope_there = function(found, k)
    wolfe = 0.1 * slope * found >= value_there - value and slope_there >= 0.9 * slope
    approximate = -0.8 * slope >= slope_there >= 0.9 * slope and value_there <= value + 1e-6 * abs(value)
    assert found > 0 and (wolfe or approximate or abs(slope_there) < 1e-6)


@pytest.mark.parametrize("beyond", [math.nan, math.inf])
def test_lbfgs_turns_back_from_where_nothing_is_finite(beyond):
    parameter = Parameter(np.full(1, 3.0))

    def objective():  # x - log x, of x above zero
        x = parameter.data.item()
        if x <= 0:
            parameter.grad += beyond
            return beyond
        parameter.grad += 50 * (1 - 1 / x)
        return 50 * (x - math.log(x))

    assert minimise(objective, [parameter]).value == pytest.approx(50)
    assert parameter.data.item() == pytest.approx(1, abs=1e-4)


def test_adam_stops_where_nothing_is_finite():
    parameter = Parameter(np.zeros(1))
    with pytest.raises(FloatingPointError, match="nan after 0 steps"):
        minimise(lambda: math.nan, [parameter], "adam")


MISTAKES = {
    "uphill": (lambda: HagerZhang()(lambda c: (c, 1.0), 0.0, 1.0, 1.0), ValueError, "downhill.*slope 1"),
    "start not finite": (
        lambda: HagerZhang()(lambda c: (c, 1.0), math.nan, -1.0, 1.0),
        ValueError,
        "finite value.*nan",
    ),
    "nowhere finite": (
        lambda: HagerZhang()(lambda c: (math.nan, 1.0), 0.0, -1.0, 1.0),
        ArithmeticError,
        "not finite at any step",
    ),
    "without end": (lambda: HagerZhang()(lambda c: (-c, -1.0), 0.0, -1.0, 1.0), ArithmeticError, "goes on downhill"),
    "start not finite in L-BFGS": (
        lambda: minimise(lambda: math.nan, [Parameter(np.zeros(1))]),
        FloatingPointError,
        "nan at the start",
    ),
    "no parameter": (lambda: minimise(lambda: 0.0, []), ValueError, "no parameter"),
    "optimizer": (
        lambda: minimise(lambda: 0.0, [Parameter(np.zeros(1))], "sgd"),
        ValueError,
        "gradient_descent.*'sgd'",
    ),
}


@pytest.mark.parametrize("mistake, error, text", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(mistake, error, text):
    with pytest.raises(error, match=text):
        mistake()
