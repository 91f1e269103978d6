"""What may happen while a run goes on: a progress bar, a line per epoch, or a user's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.train.trainer import Trainer


class Callback:
    """Called by a :class:`~chainrule.train.Trainer`; override what you need."""

    def begin(self, trainer: Trainer) -> None:
        """Before the first step of ``run``."""

    def after_step(self, trainer: Trainer, measures: Mapping[str, Any]) -> None:
        """After each step, with what it returned."""

    def after_epoch(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """After each epoch, with the line that goes into ``metrics.jsonl``."""

    def end(self, trainer: Trainer) -> None:
        """When ``run`` ends, however it ends."""


class Progress(Callback):
    """A line per epoch; on a terminal, also a progress bar while the epoch lasts."""

    def begin(self, trainer: Trainer) -> None:
        self._bar: Any = None
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = TextColumn("epoch {task.description}"), BarColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, transient=True)
            self._task = self._bar.add_task(
                "", total=trainer.epochs * len(trainer.batches), completed=trainer.step
            )
            self._bar.start()

    def after_step(self, trainer: Trainer, measures: Mapping[str, Any]) -> None:
        if self._bar is not None:
            epoch = f"{trainer.batches.epoch + 1}/{trainer.epochs}"
            self._bar.update(self._task, completed=trainer.step, description=epoch)

    def after_epoch(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        line = epoch_line(record, trainer.epochs)
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.stop()


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """The measures of an epoch as a line of text.

    >>> epoch_line({"epoch": 3, "step": 90, "loss": 0.25, "accuracy": 0.9}, epochs=20)
    'epoch  3/20  loss 0.2500  accuracy 0.9000'
    """
    counts = f"epoch {record['epoch']:{len(str(epochs))}}/{epochs}"
    measures = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in record.items()
        if name not in ("epoch", "step")
    ]
    return "  ".join([counts, *measures])
