"""Training in several processes gives what one gives: two gloo ranks on this machine, and the reducer by itself."""

import itertools
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import ranks
import torch
from engines import cupy_here

import invnet
from invnet import cli, distributed, process_group
from invnet.passes import backward_hook
from invnet.passes.context import current
from invnet.train import CHECKPOINT, METRICS, Recipe, Trainer, evaluate
from invnet.train.metrics import read_metrics

pytestmark = pytest.mark.own_seeds  # which the processes that it starts have too

HERE = pathlib.Path(__file__).parent
TIMEOUT = 120  # of a process, on a machine that is busy with other work


def environment(**more):
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]), **more}


def spawned(*arguments, size=2):
    """Runs a script in `size` processes that find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = dict(WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **together),
        )
        for rank in range(size)
    ]
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, "\n".join(outputs)
    return outputs


def torchrun(*arguments):
    """The exit status and what was printed, of two processes of a script or of `-m` a module."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, *map(str, arguments)],
        text=True,
        timeout=TIMEOUT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout


# Two processes


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two ranks found, see ranks.py."""
    folder = tmp_path_factory.mktemp("ranks")
    spawned(HERE / "ranks.py", folder)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    """The losses, validations and weights of one process."""
    return ranks.steps_of()


@pytest.mark.exhaustive
def test_ranks_agree_on_flags_values_and_weights(two):
    for found in two:
        assert (found["size"], found["again"], found["any"].tolist(), found["of_first"]) == (
            2,
            True,
            [True, False],
            "of 0",
        )
    for found in two:
        np.testing.assert_array_equal(found["broadcast"], ranks.flat(ranks.net(seed=0)))
    assert not (ranks.flat(ranks.net(seed=1)) == two[1]["broadcast"]).all()


def test_the_threads_of_a_machine_are_shared_among_its_ranks(two):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert all(found["threads"] == max(1, cores // 2) for found in two)


def test_reduced_gradients_are_those_of_the_whole_batch_of_unequal_shards(two):
    glow, X = ranks.sample()
    glow.zero_grad()
    ranks.backward(glow, X)
    expected = np.concatenate([p.grad.ravel() for p in glow.parameters()])
    assert two[0]["buckets"] > 3
    np.testing.assert_allclose(two[0]["gradients"], expected, rtol=1e-9, atol=1e-12 * abs(expected).max())
    np.testing.assert_array_equal(two[0]["gradients"], two[1]["gradients"])


def test_where_one_rank_drifts_all_compute_again_and_sum_again(two):
    parts = []
    for half in (slice(0, 2), slice(2, 4)):
        glow, X = ranks.drifting()
        glow.strict = 0.0
        Z, _ = glow.forward(X[half])
        glow.backward(Z / 2, Z)
        parts.append(np.concatenate([p.grad.ravel() for p in glow.parameters()]))
    for rank, found in enumerate(two):
        np.testing.assert_array_equal(found["healed_gradients"], sum(part / 2 for part in parts).astype("float32"))
        np.testing.assert_array_equal(found["rebuilt"], X[2 * rank : 2 * rank + 2])
        assert found["healed"] > 1e-3


def test_initialize_takes_mean_and_variance_of_all_ranks(two):
    glow, X = ranks.sample()
    glow.initialize(X)
    np.testing.assert_allclose(two[0]["initialized"], ranks.flat(glow), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(two[0]["initialized"], two[1]["initialized"])


def test_losses_validations_and_weights_are_those_of_one_process_with_batches_of_odd_size(two, alone):
    steps, validations, weights = alone
    assert len(steps) == 9 and steps[-1] < steps[0]
    for found in two:
        np.testing.assert_allclose(found["losses"], steps, rtol=1e-5)
        np.testing.assert_allclose(found["validations"], validations, rtol=1e-5)
        np.testing.assert_allclose(found["weights"], weights, rtol=1e-3, atol=1e-4)  # Adam divides by small gradients
        np.testing.assert_array_equal(found["weights"], two[0]["weights"])


@pytest.mark.parametrize("engine", ["torch", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_the_arrays_of_every_engine_are_summed_where_they_lie(engine, tmp_path, alone):
    if engine == "cupy" and not (cupy_here and cupy_here.ON_GPU and torch.cuda.is_available()):
        pytest.skip("there is no GPU for CuPy and PyTorch")
    spawned(HERE / "ranks.py", tmp_path, engine)
    for rank in range(2):
        found = np.load(tmp_path / f"{rank}.npz")
        for name, expected, tolerance in zip(("losses", "validations", "weights"), alone, (1e-5, 1e-5, 1e-3)):
            np.testing.assert_allclose(found[name], expected, rtol=tolerance, atol=1e-4 if name == "weights" else 0)


def test_a_tensor_shares_the_memory_of_its_array():
    from invnet.distributed.group import as_tensor

    array, tensor = np.zeros((4, 3))[1:3], torch.zeros(2, requires_grad=True)
    as_tensor(array)[1] += 1
    assert array.tolist() == [[0] * 3, [1] * 3]
    assert as_tensor(tensor.detach()).data_ptr() == tensor.data_ptr()


def test_a_rank_may_have_nothing_of_a_batch_that_is_evaluated(two):
    expected = evaluate(ranks.net(), ranks.images().test[:3], 16, batch=1)
    np.testing.assert_allclose([found["evaluated"] for found in two], expected, rtol=1e-6)


def test_a_training_stopped_on_one_rank_at_every_step_goes_on_to_the_same_bits(two):
    assert [found["stops"] for found in two] == [8, 8]


# The command line


DIGITS = ["train", "digits", "--epochs", "1", "--lr", "1e-3", "--quiet"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The digits under torchrun, to where rounding is not amplified yet: the folder, and what was printed."""
    run = tmp_path_factory.mktemp("straight") / "run"
    status, printed = torchrun("-m", "invnet", *DIGITS, "--out", run)
    assert status == 0, printed
    return run, printed


def without_clocks(rows):
    return [{name: value for name, value in row.items() if name not in ("seconds", "peak_mb")} for row in rows]


def test_torchrun_gives_the_losses_of_one_process(straight, tmp_path):
    assert cli.main([*DIGITS, "--out", str(tmp_path / "run")]) == 0
    one, several = read_metrics(tmp_path / "run" / METRICS), read_metrics(straight[0] / METRICS)
    assert [row["step"] for row in several] == [row["step"] for row in one] == [22]
    for name in ("train", "validation", "best"):
        np.testing.assert_allclose([row[name] for row in several], [row[name] for row in one], rtol=1e-5)
    assert several[-1]["best"] < 2.5, "the test needs a training that learns"


def test_rank_0_alone_prints_and_writes(straight):
    run, printed = straight
    assert printed.count("reconstruction: ") == printed.count("model: ") == 1
    assert sorted(file.name for file in run.iterdir()) == sorted(
        [CHECKPOINT, METRICS, "samples.png", "reconstructions.png", "loss.png"]
    )


@pytest.mark.exhaustive
def test_a_killed_worker_ends_the_job_with_a_checkpoint_from_which_it_goes_on_to_the_same_bits(straight, tmp_path):
    run = tmp_path / "run"
    status, printed = torchrun(HERE / "killed.py", *DIGITS, "--out", run)
    assert status != 0 and "rank 0 of 2 lost another worker" in printed and "SIGKILL" in printed
    assert f"{run / CHECKPOINT} is saved as of step 15, resume {run} to go on" in " ".join(printed.split())
    spawned("-m", "invnet", "train", "--resume", run, "--quiet")
    assert without_clocks(read_metrics(run / METRICS)) == without_clocks(read_metrics(straight[0] / METRICS))
    np.testing.assert_array_equal(*(ranks.flat(invnet.load(folder / CHECKPOINT)) for folder in (run, straight[0])))


# The reducer by itself


class Twins(process_group.SingleProcess):
    """Two ranks, the other with twice this one's gradients: the sum is three times what there is when a bucket is
    started.
    """

    size = 2

    def __init__(self):
        self.started = []

    def start_sum(self, gradients):
        self.started.append(Sum(gradients))
        return self.started[-1]


class Sum:
    def __init__(self, gradients):
        self.gradients, self.total = gradients, 3 * gradients

    def wait(self):
        self.gradients[...] = self.total


def coupling(seed=0):
    return invnet.AffineCoupling(4, invnet.ConvNet(2, 4, 4, seed=seed, dtype="float64"))


def structures():
    A, B, norm = coupling(0), coupling(1), invnet.ActNorm(4, dtype="float64")
    half = invnet.Chain(
        invnet.AffineCoupling(2, invnet.ConvNet(1, 4, 2, dtype="float64")), invnet.ActNorm(2, dtype="float64")
    )
    Chain, Reverse, FactorOut = invnet.Chain, invnet.Reverse, invnet.FactorOut
    return {
        "chain": Chain(A, norm, B),
        "twice": Chain(A, B, A),
        "thrice, nested": Chain(A, Chain(B, A), Chain(Chain(A, norm))),
        "reversed": Chain(A, Reverse(Chain(B, norm)), B),
        "factored out": Chain(A, FactorOut(4, half, prior=B), norm),
        "the same prior": Chain(A, FactorOut(4, half, prior=A)),
        "a folded pair": Chain(norm, invnet.Conv1x1(4, dtype="float64"), A, norm),
        "a coupling alone": A,
        "a flow": invnet.Flow(Chain(A, norm), (4, 4, 4)),
    }


@pytest.mark.parametrize("name", structures())
def test_no_bucket_is_started_before_its_last_gradient(name):
    module = structures()[name]
    layer = getattr(module, "layer", module) if isinstance(module, invnet.Flow) else module
    rng = np.random.default_rng(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * rng.standard_normal(parameter.data.shape)
    X = rng.standard_normal((3, 4, 4, 4))
    module.zero_grad()
    optimizer = invnet.optim.SGD(module.parameters())
    ranks.backward(layer, X)
    expected = optimizer.grad.copy()
    assert (abs(expected) > 0).mean() > 0.5
    module.zero_grad()
    group = Twins()
    synchronising = distributed.Reducer(group, module, optimizer, bucket_bytes=1)
    for _ in range(2):  # each pass anew
        module.zero_grad()
        group.started.clear()
        with synchronising():
            ranks.backward(layer, X)
            started = len(group.started)
        np.testing.assert_allclose(optimizer.grad, 1.5 * expected, rtol=1e-12)
        assert started == (len(synchronising.buckets) if name != "a coupling alone" else 0)
    assert sum(piece.stop - piece.start for piece in synchronising.buckets) == len(expected)
    assert len(synchronising.buckets) == len(module.parameters())


def test_buckets_are_started_while_earlier_layers_are_still_to_come():
    glow, X = ranks.sample()
    optimizer, group, log = invnet.optim.SGD(glow.parameters()), Twins(), []
    synchronising = distributed.Reducer(group, glow, optimizer, bucket_bytes=2000)
    before = synchronising._announced
    synchronising._announced = lambda *args: (before(*args), log.append(len(group.started)))
    with synchronising():
        ranks.backward(glow, X)
    assert len(synchronising.buckets) == log[-1] == len(group.started) >= 4
    assert log == sorted(log) and sum(0 < started < log[-1] for started in log) > len(log) / 3
    starts = [each.gradients.__array_interface__["data"][0] for each in group.started]
    assert starts == sorted(starts, reverse=True)  # from the last parameter on, in the optimizer's own memory
    assert all(np.shares_memory(each.gradients, optimizer.grad) for each in group.started)


def test_gradients_may_be_moved_by_another_dtype():
    glow, X = ranks.sample()
    optimizer, group = invnet.optim.SGD(glow.parameters()), Twins()
    synchronising = distributed.Reducer(group, glow, optimizer)
    glow.to(dtype="float32")
    glow.zero_grad()
    with synchronising():
        ranks.backward(glow, X.astype("float32"))
    assert group.started[0].gradients.dtype == "float32" and (glow.parameters()[0].grad != 0).all()


def test_a_second_backward_in_one_context_is_refused():
    glow, X = ranks.sample()
    synchronising = distributed.Reducer(Twins(), glow, invnet.optim.SGD(glow.parameters()))
    with pytest.raises(RuntimeError, match="more often than the module has it.*a context of its own"), synchronising():
        ranks.backward(glow, X)
        ranks.backward(glow, X)


def test_a_chain_announces_its_steps_with_their_rebuilt_input_and_its_gradient():
    norm, A, mix = invnet.ActNorm(4, dtype="float64"), coupling(), invnet.Conv1x1(4, dtype="float64")
    chain, X = invnet.Chain(A, invnet.Chain(norm, mix), A), np.random.default_rng(0).standard_normal((2, 4, 3, 3))
    chain.initialize(X)
    for layer in (chain, invnet.Reverse(chain)):
        announced, Z = [], layer.forward(X)[0]
        with backward_hook.backward_hook(
            lambda *args: announced.append([args[0], *(array.copy() for array in args[1:])])
        ):
            dX, rebuilt = layer.backward(Z, Z)
        np.testing.assert_array_equal(announced[-1][1], dX)
        np.testing.assert_array_equal(announced[-1][2], rebuilt)
        inner, (first, _, last) = chain.layers[1], chain._steps if layer is chain else chain._steps[::-1]
        assert [step for step, *_ in announced] == [last, inner._steps[0], inner, first]
        np.testing.assert_allclose(announced[-2][2], A.forward(X)[0] if layer is chain else A.inverse(X), rtol=1e-9)
    assert current().hook is None


def test_what_runs_within_a_conditioner_is_not_announced():
    class Inside(invnet.Conditioner):
        """A conditioner that asks who watches."""

        def __init__(self):
            self.net = invnet.ConvNet(2, 4, 4, dtype="float64")

        def forward(self, x, cond=None):
            return self.net.forward(x)

        def vjp(self, x, cond=None):
            seen.append(current().hook)
            return self.net.vjp(x)

    chain, seen, announced = invnet.Chain(invnet.AffineCoupling(4, Inside())), [], []
    number = invnet.num_threads()
    try:
        invnet.set_num_threads(1)  # in this thread
        with backward_hook.backward_hook(lambda layer, dX, X: announced.append(layer)):
            ranks.backward(chain, np.random.default_rng(0).standard_normal((2, 4, 3, 3)))
    finally:
        invnet.set_num_threads(number)
    assert seen == [None] and announced == list(chain.layers) and current().hook is None


# SingleProcess


def test_shards_cover_a_batch_and_differ_by_one_at_most():
    for n, size in itertools.product((0, 1, 5, 8, 17), (1, 2, 3, 8)):
        parts = []
        for rank in range(size):
            one = process_group.SingleProcess()
            one.rank, one.size = rank, size
            parts.append(one.shard(n))
        assert np.concatenate([np.arange(n)[part] for part in parts]).tolist() == list(range(n))
        lengths = {part.stop - part.start for part in parts}
        assert max(lengths) - min(lengths) <= 1


def test_without_torchrun_a_process_is_alone_and_nothing_is_imported(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    code = "import sys, invnet\nwith invnet.distributed.joined() as one: print(one.size, one.writes, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.stdout.split() == ["1", "True", "False"], done.stderr


def test_every_process_needs_an_image_of_every_batch():
    with process_group.using(Twins()), pytest.raises(ValueError, match="each of 2 processes.*batch=1"):
        Trainer(ranks.net(), ranks.images(), Recipe(batch=1))
    assert process_group.current().size == 1


@pytest.mark.parametrize("epoch", [1, 3])  # the first and the last
def test_losing_a_worker_in_a_validation_leaves_a_state_that_goes_on_with_it(monkeypatch, epoch):
    straight, lost = (Trainer(ranks.net(), ranks.images(), Recipe(**ranks.RECIPE)) for _ in range(2))
    for trainer in (straight, lost):
        trainer.initialize()
        for _ in range(3 * epoch - 1):
            trainer.advance()
    bits = straight.advance()

    def gone():
        raise process_group.WorkerLost("gone")

    with monkeypatch.context() as patch, pytest.raises(process_group.WorkerLost):
        patch.setattr(lost, "validate", gone)
        lost.advance()
    assert lost.progress.step == 3 * epoch and not lost.finished
    assert lost.advance() == bits and lost.progress == straight.progress and lost.finished == (epoch == 3)
    assert lost.finished or lost.advance() is None and lost.progress.step == 4
