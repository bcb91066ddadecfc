"""Compares variational message passing for all observations at once with a plain loop over the observations.

    python -m benchmarks.inference            100 and 1,000 observations, a few seconds
    python -m benchmarks.inference --full     10,000 too, about two minutes

The model is that of RxInfer's tutorial: two dimensions and two planar couplings. There are 20 sweeps of q(x),
q(Lambda) and q(mu) by linearisation, with the free energy after each. The time includes inverting the flow at the
observations. The loop does the same arithmetic with NumPy for one observation after the other, and ends at the same
free energy. Both use two threads.
"""

import math

import numpy as np

from . import harness

SWEEPS, NOISE, THREADS = 20, 0.05, 2
COLUMNS = dict(observations="d", contender="s", ms_min=".1f", ms_median=".1f", ratio_min=".4f", free_energy=".4f")


def problem(observations):
    import invnet
    from invnet.inference import Gaussian, Wishart
    from invnet.inference.tutorial import AdditiveCouplingLayer, FlowModel, PlanarFlow, compile, forward

    invnet.set_num_threads(THREADS)
    flow = compile(
        FlowModel(2, [AdditiveCouplingLayer(PlanarFlow()), AdditiveCouplingLayer(PlanarFlow(), permute=False)]),
        [0.73, -0.98, -0.47, 0.35, -0.82, -1.46],
    )
    rng = np.random.default_rng(0)
    Y = forward(flow, [1.5, 0.5] + rng.standard_normal((observations, 2))) + NOISE**0.5 * rng.standard_normal(
        (observations, 2)
    )
    return flow, Y, Gaussian(np.zeros(2), 100 * np.eye(2)), Wishart(4, np.eye(2) / 4)


def make_invnet(observations):
    from invnet.inference import FlowGaussianModel

    flow, Y, mean, precision = problem(observations)
    return lambda: (
        FlowGaussianModel(flow, NOISE * np.eye(2), mean, precision).fit(Y, SWEEPS, tol=-1.0).free_energy[-1]
    )  # never ends early


def make_loop(observations):
    from invnet.inference import Gaussian, Wishart, pullback

    flow, Y, mean, precision = problem(observations)
    noise, constant = NOISE * np.eye(2), 2 * math.log(2 * math.pi)

    def fit():
        messages = []
        for y in Y:
            point, cov, _ = pullback(flow, y, noise)
            messages.append((point, np.linalg.inv(cov)))
        q_mu, q_lambda = mean, precision
        for _ in range(SWEEPS):
            P, q_x = q_lambda.mean, []
            for point, message in messages:
                A = np.linalg.inv(P + message)
                q_x.append((A @ (P @ q_mu.mean + message @ point), A))
            scatter = np.zeros((2, 2))
            for a, A in q_x:
                scatter += A + q_mu.cov + np.outer(a - q_mu.mean, a - q_mu.mean)
            q_lambda = Wishart(precision.df + len(Y), np.linalg.inv(np.linalg.inv(precision.scale) + scatter))
            P, total = q_lambda.mean, np.zeros(2)
            for a, _ in q_x:
                total += a
            V = np.linalg.inv(np.linalg.inv(mean.cov) + len(Y) * P)
            q_mu = Gaussian(V @ (np.linalg.inv(mean.cov) @ mean.mean + P @ total), V)
            F = (
                mean.cross_entropy(q_mu.mean, q_mu.cov)
                - q_mu.entropy()
                + precision.cross_entropy(q_lambda)
                - q_lambda.entropy()
            )
            expected, logdet_noise = q_lambda.expected_logdet(), np.linalg.slogdet(noise)[1]
            for (a, A), (point, message) in zip(q_x, messages):
                off, e = a - q_mu.mean, a - point
                F += 0.5 * (constant - expected + np.sum(P * (A + q_mu.cov + np.outer(off, off))))
                F += 0.5 * (constant + logdet_noise + np.sum(message * (A + np.outer(e, e))))
                F -= 0.5 * (constant + 2 + np.linalg.slogdet(A)[1])
        return F

    return fit


MAKERS = {"invnet": make_invnet, "loop over observations": make_loop}


def plot(rows, folder, name):
    fig, axes = harness.figure(1, width=5, height=3.8)
    for contender, color in zip(MAKERS, ("black", "tab:red")):
        mine = [row for row in rows if row["contender"] == contender]
        harness.line(
            axes[0][0],
            [row["observations"] for row in mine],
            [row["seconds_median"] for row in mine],
            contender,
            color=color,
        )
    axes[0][0].set(xscale="log", yscale="log", xlabel="observations", ylabel=f"seconds for {SWEEPS} sweeps")
    axes[0][0].legend(frameon=False)
    axes[0][0].grid(alpha=0.3)
    harness.write_png(fig, name, folder)


def main():
    options, rows = harness.options(__doc__).parse_args(), []
    for observations in (100, 1_000, 10_000) if options.full else (100, 1_000):
        made = {name: make(observations) for name, make in MAKERS.items()}
        values = {name: step() for name, step in made.items()}
        if max(values.values()) - min(values.values()) > 1e-6:
            raise ArithmeticError(f"the free energies differ: {values}")
        seconds = harness.in_turns(made, range(3), repeats=1, threads=THREADS)
        for row in harness.summary(seconds):
            rows.append(
                row
                | {
                    "observations": observations,
                    "sweeps": SWEEPS,
                    "threads": THREADS,
                    "free_energy": values[row["contender"]],
                    "ms_min": 1e3 * row["seconds_min"],
                    "ms_median": 1e3 * row["seconds_median"],
                }
            )
    harness.print_table(rows, COLUMNS)
    harness.keep(rows, "inference", options, plot)


if __name__ == "__main__":
    main()
