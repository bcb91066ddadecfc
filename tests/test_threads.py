"""Threads, processes and Ctrl-C: what runs beside a training, and what comes in between, changes none of its bits."""

import multiprocessing
import signal
import sys
import threading

import numpy as np
import psutil
import pytest

import invnet
from invnet.inference import jacobian
from invnet.losses import gaussian_nll
from invnet.optim import Adam, clip_by_global_norm
from invnet.passes.context import PassContext, current

NIGHTLY = [pytest.mark.nightly, pytest.mark.slow]
SHAPE = (24, 3, 16, 16)  # several tiles for a Glow of 16 hidden channels, so that worker threads are at work


@pytest.fixture(autouse=True)
def three_threads():
    before = invnet.num_threads()
    invnet.set_num_threads(3)
    yield
    invnet.set_num_threads(before)


def glow(seed):
    net = invnet.Glow(3, 16, 2, 2, seed=seed)
    for p in net.parameters():
        p.data += 0.05 * np.random.default_rng(seed).standard_normal(p.data.shape).astype(p.data.dtype)
    return net


def step(net, optimizer, X):
    Z, logdet = net.forward(X)
    loss, dZ, dlogdet = gaussian_nll(Z, logdet)
    net.backward(dZ, Z, dlogdet)
    clip_by_global_norm(net.parameters(), 10.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss


def trained(seed, steps=4, shape=SHAPE):
    """The bits of a model after some steps."""
    net, rng = glow(seed), np.random.default_rng(seed)
    optimizer = Adam(net.parameters())
    for _ in range(steps):
        step(net, optimizer, rng.standard_normal(shape).astype("float32"))
    return b"".join(array.tobytes() for array in net.state_dict().values())


def test_models_that_train_in_two_threads_give_what_they_give_alone():
    alone, found, ready = [trained(seed) for seed in (1, 2)], {}, threading.Barrier(2)

    def work(seed):
        ready.wait()
        found[seed] = trained(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [found[1], found[2]] == alone


def send(seed, pipe):
    pipe.send_bytes(trained(seed))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings(
    "ignore:.*use of fork:DeprecationWarning"
)  # of Python from 3.12 on, where a process has threads
@pytest.mark.own_seeds  # which the processes that it starts have too
def test_processes_forked_or_spawned_while_threads_are_at_work_give_the_same(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    expected, going_on, context = trained(1), True, multiprocessing.get_context(method)

    def others():
        while going_on:
            trained(2, 1)

    beside = threading.Thread(target=others)
    beside.start()
    try:
        for _ in range(5 if method == "fork" else 1):
            receiver, sender = context.Pipe(False)
            process = context.Process(target=send, args=(1, sender))
            process.start()
            sender.close()
            assert receiver.poll(120), f"a process by {method} hangs"
            assert receiver.recv_bytes() == expected
            process.join(60)
            assert process.exitcode == 0
    finally:
        going_on = False
        beside.join()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that signals")
@pytest.mark.parametrize("times", [10, pytest.param(300, marks=NIGHTLY)])
def test_ctrl_c_at_any_moment_of_a_step_leaves_the_model_usable(times):
    net, rng, X = glow(1), np.random.default_rng(0), np.random.default_rng(1).standard_normal(SHAPE).astype("float32")

    def outputs():
        net.zero_grad()
        Z, logdet = net.forward(X)
        dX, _ = net.backward(Z, Z)
        return [a.tobytes() for a in (Z, logdet, dX, net.inverse(Z), *(p.grad for p in net.parameters()))]

    def press(number, frame):
        raise KeyboardInterrupt

    expected, before, pressed = (
        outputs(),
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT)),
        0,
    )
    usual = signal.signal(signal.SIGINT, press)
    try:
        while pressed < times:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 0.05))
                while True:
                    outputs()
            except KeyboardInterrupt:
                pressed += 1
            assert outputs() == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGINT, usual)


def test_a_jacobian_in_another_thread_leaves_the_gradients_of_a_training_alone():
    net, X = invnet.RealNVP(4, 16, 4), np.random.default_rng(0).standard_normal((50, 4)).astype("float32")
    going_on = True

    def gradients():
        net.zero_grad()
        Z, _ = net.forward(X)
        net.backward(Z, Z)
        return [p.gradient.array.tobytes() for p in net.parameters()]

    def others():
        while going_on:
            jacobian(net, X)

    expected = gradients()
    beside = threading.Thread(target=others)
    beside.start()
    try:
        assert all(gradients() == expected for _ in range(200))
    finally:
        going_on = False
        beside.join()


class PressedIn:
    """A context in which Ctrl-C is pressed after call number `turn` of a C function from an `__enter__` of the library
    or of NumPy.

    It is then that Python looks for signals. The call may have changed a setting, which nothing changes back yet.
    """

    def __init__(self, turn):
        self.turn, self.pressed = turn, False

    def __enter__(self):
        sys.setprofile(self._look)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)

    def _look(self, frame, event, argument):
        code = frame.f_code
        inside = code.co_name == "__enter__" and ("invnet" in code.co_filename or "numpy" in code.co_filename)
        if event == "c_return" and inside and not self.pressed:
            self.turn -= 1
            if self.turn < 0:
                self.pressed = True
                sys.setprofile(None)
                raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["forward", "backward", "inverse", "log_prob", "decode"])
def test_ctrl_c_before_the_end_of_a_with_block_leaves_no_setting(name):
    net = glow(1)
    flow, exact = invnet.Flow(net, SHAPE[1:]), invnet.layers.Exact(invnet.Glow(3, 16, 1, 1))
    X = np.random.default_rng(1).standard_normal((2, *SHAPE[1:])).astype("float32")
    coded = exact.encode((X * 1000).astype("int64"))
    act = {
        "forward": lambda: net.forward(X),
        "backward": lambda: net.backward(X, X),
        "inverse": lambda: net.inverse(X),
        "log_prob": lambda: flow.log_prob(X),
        "decode": lambda: exact.decode(*coded),
    }[name]
    act()
    before, turn = np.geterr(), 0
    while True:
        try:
            with PressedIn(turn) as pressed:
                act()
            break
        except KeyboardInterrupt:
            assert pressed.pressed
        assert np.geterr() == before and current() == PassContext(), turn
        turn += 1
    assert turn > 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux says of a process")
@pytest.mark.parametrize("steps", [1000, pytest.param(20_000, marks=NIGHTLY)])
def test_a_long_run_grows_neither_in_memory_nor_in_files_nor_in_threads(tmp_path, steps):
    process, rng = psutil.Process(), np.random.default_rng(0)
    net = invnet.Chain(invnet.Logit(0.01), invnet.Glow(1, 8, 1, 1))
    optimizer = Adam(net.parameters())

    def run(n):
        for i in range(n):
            step(net, optimizer, rng.uniform(0.1, 0.9, (1 + i % 7, 1, 4, 4)).astype("float32"))
            if i % 250 == 0:
                invnet.save(net, tmp_path / "net")
                invnet.load(tmp_path / "net")
        return process.memory_info().rss, process.num_fds(), process.num_threads()

    memory, files, threads = run(500)  # caches fill
    later = run(steps)
    assert later[0] < memory + (2 << 20), f"memory grew by {(later[0] - memory) / 2**20:.1f} MiB in {steps} steps"
    assert later[1:] == (files, threads)
    assert [file.name for file in tmp_path.iterdir()] == ["net"]


def test_threads_may_look_for_the_parts_of_a_model_at_the_same_time():
    before, errors = sys.getswitchinterval(), []
    sys.setswitchinterval(1e-6)

    def look(net):
        try:
            for module in (net, *net.layers):
                module.derived("name", object)
        except RuntimeError as error:  # a dictionary changed its size while another thread went through it
            errors.append(error)

    try:
        for _ in range(50):
            net = invnet.NSF(4, 4, 6)
            threads = [threading.Thread(target=look, args=(net,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not errors
