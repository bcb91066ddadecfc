"""The parser of the command line, and what becomes of errors and of Ctrl-C."""

import argparse
import difflib
import functools
import os
import pathlib
import shutil
import sys
import textwrap
import traceback

from .. import __version__
from ..ops import ENGINES
from ..train import Interrupted
from ..train.recipe import Recipe
from . import commands
from .bench import bench
from .options import add_fields, anchors, positive
from .presets import Model

DESCRIPTION = (
    "Trains a multiscale Glow, an invertible network that gives the exact likelihood of images and draws new ones."
)
EXAMPLES = """\
examples:
  invnet train digits                     the 8x8 digits that come with scikit-learn, about a minute
  invnet train images.npz --epochs 100    arrays x_train and x_test, or one array of images
  invnet train photos/ --hidden 128       a folder of images, or with train/ and test/
  invnet train cifar-10-batches-bin/      the binary version of CIFAR-10 or CIFAR-100
  invnet train --resume runs/digits       go on after Ctrl-C, with the same bits
  invnet sample runs/digits -n 64 --out new.png
  invnet sample runs/digits -n 64 --out new.npz        or new.npy, or new/ for single images
  invnet evaluate runs/digits
  invnet bench memory                     peak memory against depth, beside PyTorch's
"""


class Parser(argparse.ArgumentParser):
    """Prints one line for a user's mistake, not the whole usage."""

    def __init__(self, **options):
        # The formatter that keeps the lines of the examples would not wrap the description either.
        text = textwrap.fill(options.pop("description"), shutil.get_terminal_size().columns - 2)
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=formatter, description=text, **options)

    def parse_known_args(self, args=None, namespace=None):
        """Refuses what it does not know itself, so that the error names its own help page and not that of all
        commands.
        """
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = next((word for word in unknown if word.startswith("-")), "").partition("=")[0]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_did_you_mean(flag, self._option_string_actions)}")
        return namespace, unknown

    def _check_value(self, action, value):
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            raise argparse.ArgumentError(action, error.message + _did_you_mean(value, action.choices)) from None

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _did_you_mean(word, known):
    close = difflib.get_close_matches(str(word), map(str, known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def parser():
    """The parser of all commands; options of a model or a training that were not given are not in its result."""
    top = Parser(prog="invnet", description=DESCRIPTION, epilog=EXAMPLES)
    top.add_argument("--version", action="version", version=f"invnet {__version__}")
    subparsers = _add_subparsers(top, "commands", "COMMAND")
    _add_train(subparsers)
    _add_sample(subparsers)
    _add_evaluate(subparsers)
    _add_bench(subparsers)
    return top


def _add_subparsers(parser, title, metavar):
    """The parsers of the commands of a parser, which without a command prints its help."""
    parser.set_defaults(command=parser.print_help, prog=parser.prog, traceback=False)
    return parser.add_subparsers(title=title, metavar=metavar, parser_class=Parser)


def _add_train(subparsers):
    train = _command(
        subparsers,
        "train",
        commands.train,
        "train a Glow on images",
        "Trains a Glow, and keeps its checkpoint, pictures and metrics in a folder. Ctrl-C saves; --resume goes on.",
        "%(prog)s DATA [options]\n       %(prog)s --resume RUN",
    )
    train.add_argument(
        "source",
        nargs="?",
        metavar="DATA",
        help='"digits", a .npz or .npy file, a folder of images, or of CIFAR\'s binary version',
    )
    run = train.add_argument_group("run").add_argument
    run("--out", metavar="RUN", help="folder for all that is kept (default: runs/NAME, or the next that is free)")
    run(
        "--resume",
        metavar="RUN",
        help="go on with the training in this folder, with the options of its beginning; --epochs may be another",
    )
    run(
        "--engine",
        metavar="ENGINE",
        help=f"{' or '.join(ENGINES)}, on a GPU cuda (CuPy), cupy:1 or torch:cuda "
        "(default: numpy; of --resume that of the beginning)",
    )
    run("--max-seconds", type=positive, metavar="S", help="stop, resumably, after this time (default: no limit)")
    run("--quiet", action="store_true", help="no progress bar and no line for each epoch")
    group = train.add_argument_group("data")
    given = functools.partial(group.add_argument, default=argparse.SUPPRESS)
    given("--bits", type=int, metavar="N", help="reduce the images to 2**N levels (default: keep)")
    given(
        "--values",
        type=int,
        metavar="K",
        help="how many values a pixel of an array or a folder of images can take (default: 256)",
    )
    given("--layout", metavar="NCHW|NHWC", help="of arrays of rank 4, where their shape does not say it")
    given("--validation", type=float, metavar="SHARE", help="of the images, for validation (default: 0.1)")
    given(
        "--test",
        type=float,
        metavar="SHARE",
        help="of the images, for the test, if they have no test part (default: 0.1)",
    )
    guard = functools.partial(train.add_argument_group("rebuilt states").add_argument, default=argparse.SUPPRESS)
    guard(
        "--anchors",
        type=anchors,
        metavar="K|auto",
        help="keep every K-th state for backward to go on from (default: none)",
    )
    guard(
        "--strict",
        type=float,
        metavar="X",
        help="drift above which a segment between anchors is computed again; 0: each",
    )
    guard("--state-dtype", metavar="NAME", help="of the states between layers: float64 beside a model in float32")
    add_fields(train.add_argument_group("model"), Model)
    add_fields(train.add_argument_group("training"), Recipe)


def _add_sample(subparsers):
    sample = _command(
        subparsers,
        "sample",
        commands.sample,
        "draw new images",
        "Draws images from a trained Glow, and writes them as one picture, as single images or as an array. "
        "No file that exists is overwritten.",
    ).add_argument
    sample("run", metavar="RUN", help="folder of a training")
    sample("-n", type=int, default=64, metavar="N", help="how many (default: 64)")
    sample(
        "--temperature",
        type=positive,
        default=1.0,
        metavar="T",
        help="deviation of the noise; below 1 is more typical (default: 1)",
    )
    sample("--seed", type=int, default=0, metavar="SEED", help="(default: 0)")
    sample("--columns", type=int, metavar="N", help="of the picture (default: a picture near square)")
    sample(
        "--out",
        metavar="PLACE",
        help="a picture such as x.png, an array x.npy or x.npz of integers, or a folder/ for single .png images "
        "(default: samples.png "
        "in RUN, or samples-2.png, ...)",
    )


def _add_evaluate(subparsers):
    evaluate = _command(
        subparsers,
        "evaluate",
        commands.evaluate,
        "test bits per dimension",
        "Prints test bits/dim beside two baselines, and the reconstruction error.",
    ).add_argument
    evaluate("run", metavar="RUN", help="folder of a training")
    evaluate("--data", metavar="DATA", help="where the data are now (default: where they were)")


def _add_bench(subparsers):
    both = (
        "Beside it, where PyTorch is installed: the same Glow in PyTorch, storing all activations, and under "
        "checkpointing."
    )
    kinds = _add_subparsers(
        subparsers.add_parser(
            "bench",
            help="memory and speed of a training step on this machine",
            description=f"Measures a training step of a Glow on this machine, in about a minute. {both}",
        ),
        "what",
        "WHAT",
    )
    for what, summary, description in (
        ("memory", "peak memory against depth", "Measures peak memory at four depths, each in a process of its own."),
        ("speed", "time of a step", "Measures the time of a step at two widths, all in turns."),
    ):
        kind = _command(kinds, what, bench, summary, f"{description} {both}", threads=1)
        kind.set_defaults(what=what)
        kind.add_argument("--engine", choices=ENGINES, default="numpy", help="of invnet (default: numpy)")
        kind.add_argument(
            "--out", metavar="CSV|FOLDER", help="keep the figures there, as a .csv file and a .png beside it"
        )


def _command(subparsers, name, function, summary, description, usage=None, threads=None):
    command = subparsers.add_parser(name, help=summary, description=description, usage=usage)
    command.set_defaults(command=function, prog=command.prog)
    shown = "all cores that this process may use" if threads is None else threads
    command.add_argument("--threads", type=int, default=threads, metavar="N", help=f"threads (default: {shown})")
    command.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    return command


def _program():
    """What a shell here calls this program: in a virtual environment that is not active, its path."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return f"torchrun --nproc-per-node={os.environ['LOCAL_WORLD_SIZE']} -m invnet"
    if pathlib.Path(sys.argv[0]).name == "__main__.py":
        return "python -m invnet"
    return "invnet" if shutil.which("invnet") else os.path.relpath(sys.argv[0])


def main(argv=None):
    """Runs a command; returns 0, 2 for a user's mistake, 130 for Ctrl-C."""
    arguments = vars(parser().parse_args(argv))
    command, prog, shows = arguments.pop("command"), arguments.pop("prog"), arguments.pop("traceback")
    try:
        command(**arguments)
        return 0
    except Interrupted as error:
        saved = f"{_program()} train --resume {error.path.parent}"
        print(f"\ninterrupted at step {error.step}, and saved; go on with:  {saved}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `invnet evaluate RUN | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, ImportError, OSError, MemoryError, FloatingPointError) as error:
        if shows:
            traceback.print_exc()
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2
