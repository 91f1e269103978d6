"""The command ``chainrule``: train, summary, explain, profile, cache.

Wrong input ends with one message and status 2, an error of the library with its text and status 1,
Ctrl-C with how to go on and status 130; ``--debug`` shows the traceback instead.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import sys
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.errors import ChainruleError, DataError, InterruptedRun, OptionError, language
from chainrule.run import set_executor

app = typer.Typer(
    name="chainrule",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text: quick, and the same on every console
    pretty_exceptions_enable=False,
)
train = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
summary = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train, name="train", help="Train a network, and see how good it is.")
app.add_typer(summary, name="summary", help="Show the layers of a network.")
cache = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache, name="cache", help="Look at the compiled kernels on disk, or remove them.")


class Language(StrEnum):
    """Languages of messages and explanations."""

    en = "en"
    zh = "zh"


class Executor(StrEnum):
    """Executors that can be profiled."""

    native = "native"
    interpreter = "interpreter"


class Sums(StrEnum):
    """What the rows of a profile are summed by."""

    layer = "layer"
    phase = "phase"
    kernel = "kernel"
    line = "line"


class Format(StrEnum):
    """How an explanation is laid out."""

    text = "text"
    markdown = "markdown"
    json = "json"


_state = {"debug": False}


def _set_language(language: Language | None) -> Language | None:
    if language is not None:
        os.environ["CHAINRULE_LANG"] = language.value
    return language


def _set_debug(debug: bool) -> bool:
    _state["debug"] |= debug
    return debug


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"chainrule {version('chainrule')}")
        raise typer.Exit


Lang = Annotated[
    Language | None,
    typer.Option("--lang", callback=_set_language, is_eager=True, help="Language: en or zh."),
]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show tracebacks.")
]


@app.callback()
def chainrule(
    lang: Lang = None,
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A neural-network library that you can read.

    Begin with these:

    \b
      chainrule explain exam          one neuron, by hand: forward, loss, backward, update
      chainrule train digits          train a network on handwritten digits (seconds)
      chainrule train perceptron      the first neuron that learned, and what it can't learn
      chainrule summary digits        its layers, shapes and parameters
      chainrule profile digits        where the time of a training step goes
      chainrule cache info            where compiled kernels are kept
    """


# ------------------------------------------------------------------------------ train

Data = Annotated[
    str | None,
    typer.Option(
        help="uci: 1,797 digits of 8x8 pixels, part of the package; mnist: 70,000 of 28x28. "
        "[default: uci]",
    ),
]
Hidden = Annotated[
    int | None, typer.Option(help="Neurons in the hidden layer. [default: 256; mnist: 128]")
]


@train.command("digits")
def train_digits(
    data: Data = None,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same network, bit for bit. [default: 0]"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data. [default: 40; mnist: 5]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Digits per step. [default: 32; mnist: 64]")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="The first learning rate; it falls to 0. [default: 0.02; mnist: 0.005]"),
    ] = None,
    hidden: Hidden = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            help="Probability of leaving out a hidden neuron while training. "
            "[default: 0.5; mnist: 0.1]"
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the training digits to measure after each epoch, not to learn from; "
            "for example 0.1.",
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where the run folder is made.")] = Path("runs"),
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with an interrupted run: its folder."),
    ] = None,
    lang: Lang = None,
    debug: Debug = False,
) -> None:
    """Train a network to read handwritten digits.

    One digit in seven (mnist) or five (uci) is held out and used for nothing but the figure at the
    end. The run folder holds the settings, the measures of each epoch, checkpoints, and a picture
    of held-out digits with what the network reads in them.

    \b
      chainrule train digits
      chainrule train digits --hidden 32 --epochs 10 --seed 1
      chainrule train digits --data mnist
      chainrule train digits --resume runs/digits-20260131-154500
    """
    from chainrule.explain.words import word
    from chainrule.recipes import digit_pictures, digits
    from chainrule.train import Progress, RunFolder

    given = _given({
        "data": data, "seed": seed, "epochs": epochs, "batch": batch, "lr": lr,
        "hidden": hidden, "dropout": dropout, "validation": validation,
    })  # fmt: skip
    if resume:
        if given:
            raise OptionError(
                name="--resume",
                expected="alone: the settings are those the run began with",
                got=f"--{next(iter(given))} too",
                mend="leave it out, or start a new run",
            )
        folder = RunFolder(resume)
        settings = digits.settings_of(folder)
        split = digits.load(settings)
    else:
        settings = digits.choose(**given)
        split = digits.load(settings)  # first, so that where it fails no empty folder is left
        folder = digits.new_folder(settings, runs)
    print(f"{word('run_folder', language())}: {folder.path}", flush=True)
    trained = digits.train(
        settings, split, folder, resume=resume is not None, callbacks=[Progress()]
    )
    print(f"held-out accuracy: {trained.accuracy:.4f}")
    columns = shutil.get_terminal_size().columns
    print()
    print(
        digit_pictures.drawn(
            trained.held_out, trained.predictions, sys.stdout.encoding or "ascii", min(columns, 80)
        )
    )
    print()
    picture = folder.path / "predictions.png"
    digit_pictures.save_picture(picture, trained.held_out, trained.predictions)
    print(word("more_digits", language(), path=picture))


@train.command("perceptron")
def train_perceptron(
    problem: Annotated[str, typer.Option(help="points, and, or, xor.")] = "points",
    seed: Annotated[int, typer.Option(help="Another seed gives other points.")] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the samples at most.")] = 100,
    eta: Annotated[float, typer.Option(help="Learning rate.")] = 1.0,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw the samples and the boundary line into this file."),
    ] = None,
    lang: Lang = None,
    debug: Debug = False,
) -> None:
    """Train Rosenblatt's perceptron by its own rule, on points that a line separates, or on XOR.

    \b
      chainrule train perceptron --picture boundary.png
      chainrule train perceptron --problem xor
    """
    from chainrule.models.perceptron import plot_boundary
    from chainrule.recipes import perceptron

    trained = perceptron.train(problem, seed, epochs, eta)
    print(trained.history.report())
    print(perceptron.weights_line(trained.perceptron))
    if picture:
        plot_boundary(trained.perceptron, trained.x, trained.y, picture)
        print(picture)


# ------------------------------------------------------------------------------ summary


@summary.command("digits")
def summary_digits(
    data: Data = None, hidden: Hidden = None, lang: Lang = None, debug: Debug = False
) -> None:
    """Show the layers of the network that reads digits: roles, shapes, parameters."""
    from chainrule.models import summary
    from chainrule.recipes import digits

    given = {"data": data, "hidden": hidden}
    settings = digits.choose(**_given(given))
    side = digits.SIDE[settings.data]
    print(summary(digits.network(settings), (side, side)))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were written on the command line."""
    return {name: value for name, value in options.items() if value is not None}


# ------------------------------------------------------------------------------ explain


@app.command()
def explain(
    case: Annotated[str, typer.Argument(help="perceptron, exam or two-layers.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=NUMBER", help="What if? For example --set y=0; may be repeated."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Repeat the parameter update.")] = 1,
    lr: Annotated[float, typer.Option(help="Learning rate of the update.")] = 0.1,
    loss: Annotated[
        str | None, typer.Option(help="Another loss function, for example mse.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Open every step.")] = False,
    at: Annotated[
        str | None, typer.Option(help="One entry with every term: w1, dL/dz, 0.weight[0,1].")
    ] = None,
    format: Annotated[Format, typer.Option(help="How it is laid out.")] = Format.text,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    lang: Lang = None,
    debug: Debug = False,
) -> None:
    """Derive a textbook case, in symbols and in numbers.

    \b
      chainrule explain exam
      chainrule explain exam --set y=0 --full
      chainrule explain exam --steps 4 --lr 0.1
      chainrule explain perceptron --lang zh
    """
    if not math.isfinite(lr):
        raise OptionError(name="--lr", expected="a finite number", got=lr)
    print(
        _explanation(
            case,
            settings=dict(map(_assignment, settings or [])),
            steps=steps,
            lr=lr,
            loss=loss,
            full=full,
            at=at,
            format=Format.json.value if json else format.value,
        )
    )


def _explanation(case: str, **options: Any) -> str:
    from chainrule.explain import cases

    return cases.run(case, lang=language(), **options).rstrip("\n")


def _assignment(text: str) -> tuple[str, float]:
    """``y=0`` as a name and a number."""
    name, _, written = text.partition("=")
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise OptionError(
            name="--set", expected="NAME=NUMBER", got=repr(text), mend="for example --set y=0"
        )
    return name.strip(), number


# ------------------------------------------------------------------------------ profile


@app.command(context_settings={"ignore_unknown_options": True})
def profile(
    case: Annotated[str, typer.Argument(help="digits, W1 to W7, or a Python file.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="Words for the Python file.", show_default=False)
    ] = None,
    by: Annotated[
        list[Sums] | None,
        typer.Option(help="A table by layer, phase, kernel or line; may be repeated. [layer]"),
    ] = None,
    executor: Annotated[Executor, typer.Option(help="Who runs the step.")] = Executor.native,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Runs to measure. [as many as take a second]")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page: flame view and roofline.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Every row, as JSON.")] = False,
    lang: Lang = None,
    debug: Debug = False,
) -> None:
    """Show where the time of a training step goes.

    digits is the step of "chainrule train digits"; W1 to W7 are those of the benchmarks, in a
    clone of the repository. A Python file is run until it has called a function made by cr.compile
    three times; that function is measured, on copies of its variables, on one thread.

    \b
    The columns:
      ms        time of a call that is spent there, the median of the rounds; us: millionths of s
      time      its share of the time in all kernels
      MFLOP     millions of floating-point operations: a product and a sum are one each
      of peak   operations per second, over the most that one core can do (measured);
                on the interpreter GFLOP/s, thousands of millions of operations per second
      MB        size of the tensors that are read and written
      of roof   the least time that these operations or bytes take one core, over the time taken
      line      of your program, where most of that time comes from
    "-" is what belongs to no layer: the loss, and the update of the parameters. An update that
    one kernel does together with the gradient is counted as backward.

    \b
      chainrule profile digits
      chainrule profile train.py --html profile.html
      chainrule profile W6 --by phase --by kernel
    """
    from chainrule.profile import profile as measure

    set_executor(executor.value)
    step, args, kwargs = _step_to_profile(case, options or [])
    found = measure(step, *args, rounds=rounds, **kwargs)
    if html:
        print(found.html(html))
    elif json:
        print(found.json())
    else:
        print(found.text([each.value for each in by or [Sums.layer]]))


def _step_to_profile(case: str, options: list[str]) -> tuple[Any, Any, Any]:
    """A compiled step and its arguments."""
    from chainrule.profile.programs import step_of, step_of_file

    if case == "digits":
        from chainrule.recipes import digits

        settings = digits.choose()
        return step_of(lambda: digits.train(settings, digits.load(settings)), case)
    benchmarks = Path(__file__).resolve().parents[1] / "benchmarks"
    if case in [f"W{number}" for number in range(1, 8)] and benchmarks.is_dir():
        sys.path.insert(0, str(benchmarks))
        workloads = import_module("workloads")
        workload = workloads.WORKLOADS[case]
        return workloads.chainrule_training(workload), workload.data(), {}
    return step_of_file(Path(case), options)


# ------------------------------------------------------------------------------ cache


@cache.command("info")
def cache_info(lang: Lang = None, debug: Debug = False) -> None:
    """Show where compiled kernels are kept, how many, and how much room they take.

    The native executor compiles a kernel once and keeps it on disk; later programs find it there,
    and start sooner. Once the folder holds more than the limit, the kernels read longest ago are
    removed. $CHAINRULE_CACHE names another place.
    """
    from chainrule.run.native.cache import contents

    found = contents()
    print(f"folder   {found.folder}")
    print(f"state    {found.state}")
    print(f"kernels  {found.entries}")
    print(f"size     {_megabytes(found.nbytes)} of at most {_megabytes(found.limit)}")


@cache.command("clear")
def cache_clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    lang: Lang = None,
    debug: Debug = False,
) -> None:
    """Remove all compiled kernels; the next program compiles those it needs again."""
    from chainrule.run.native.cache import clear, contents

    found = contents()
    if not found.entries:
        print(f"There are no kernels in {found.folder}")
        return
    size = _megabytes(found.nbytes)
    if not yes:
        question = f"Remove {found.entries} kernels ({size}) from {found.folder}?"
        typer.confirm(question, abort=True)
    removed, left = clear()
    print(f"Removed {removed} kernels ({size})." if not left else f"Removed {removed} kernels.")
    if left:
        raise OSError(f"{left} kernels in {found.folder} could not be removed.")


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MB"


# ------------------------------------------------------------------------------ main


def main() -> None:
    """Run the command line; ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except ChainruleError as error:
        if _state["debug"]:
            raise
        print(error, file=sys.stderr)
        if isinstance(error, InterruptedRun):
            sys.exit(130)
        sys.exit(2 if isinstance(error, OptionError | DataError) else 1)
    except OSError as error:  # a full disk, a folder that may not be written to
        if _state["debug"]:
            raise
        print(error, file=sys.stderr)
        sys.exit(1)
