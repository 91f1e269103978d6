"""The training loop: steps, epochs, checkpoints, and the way back into an interrupted run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from chainrule.data import Batches
from chainrule.errors import ChainruleError, CheckpointError, InterruptedRun, OptionError
from chainrule.nn import Module
from chainrule.tensor.compile import compile
from chainrule.tensor.state import current, generator
from chainrule.tensor.tensor import Tensor
from chainrule.train.callbacks import Callback
from chainrule.train.folder import RunFolder
from chainrule.train.metrics import Means, measure

Measures = Mapping[str, Tensor]


class Stateful(Protocol):
    """Whatever a checkpoint can hold."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Trainer:
    """Runs a step over batches until a number of epochs is reached.

    A run that stops, by Ctrl-C or by a power cut, and goes on in a new process ends in the same
    bits as one that never stopped: parameters, buffers, optimizer, random numbers and the order of
    the data all come from the checkpoint.

    Args:
        model: in training mode during steps, in evaluation mode while it is measured.
        optimizer: what the step updates the model with.
        step: called with the arrays of a batch; learns from it, and returns named means over it,
            such as ``{"loss": loss, "accuracy": ...}``. It is compiled.
        batches: what to learn from.
        score: the measures alone, without learning; needed with ``validation``. Compiled too.
        validation: batches measured after each epoch; nothing is learnt from them.
        folder: where metrics and checkpoints go; without it nothing is written.
        callbacks: what else happens, such as :class:`~chainrule.train.Progress`.

    Raises:
        OptionError: validation without score.

    Attributes:
        step: steps done.
        epochs: the number of epochs that the present ``run`` goes to.

    Example:
        >>> import numpy as np
        >>> from chainrule import nn, optim
        >>> from chainrule.data import Batches
        >>> model = nn.Linear(1, 1)
        >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
        >>> def step(x, y):
        ...     loss = nn.functional.mse_loss(model(x), y)
        ...     loss.backward()
        ...     optimizer.step()
        ...     return {"loss": loss}
        >>> x = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
        >>> trainer = Trainer(model, optimizer, step, Batches([x, 3 * x], batch_size=5))
        >>> trainer.run(epochs=20)["loss"] < 1e-3
        True
    """

    def __init__(
        self,
        model: Module,
        optimizer: Stateful,
        step: Callable[..., Measures],
        batches: Batches,
        *,
        score: Callable[..., Measures] | None = None,
        validation: Batches | None = None,
        folder: RunFolder | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        if validation is not None and score is None:
            raise OptionError(
                name="score",
                expected="a function, to measure validation with",
                got=None,
                mend="give the part of step that computes the measures, without backward()",
            )
        self.model = model
        self.optimizer = optimizer
        self.batches = batches
        self.score = compile(score) if score else None
        self.validation = validation
        self.folder = folder
        self.callbacks = tuple(callbacks)
        self.step = 0
        self.epochs = 0
        self._learn = compile(step)
        self._means = Means()
        self._kept: dict[str, Stateful] = {
            "model": model,
            "optimizer": optimizer,
            "batches": batches,
            "means": self._means,
            "random": _Random(),
        }

    def run(self, epochs: int) -> dict[str, Any]:
        """Train until ``epochs`` epochs are done, those before a resume among them.

        Returns:
            The measures of the last epoch, or nothing where all epochs were done before.

        Raises:
            InterruptedRun: Ctrl-C was pressed; the present step was finished and saved.
            KeyboardInterrupt: the same, where there is no folder to save in.
        """
        self.epochs = epochs
        record: dict[str, Any] = {}
        for callback in self.callbacks:
            callback.begin(self)
        try:
            with _interruptions() as interrupted:
                while self.batches.epoch < epochs:
                    self._epoch(interrupted)
                    record = self._finish_epoch()
        finally:
            for callback in self.callbacks:
                callback.end(self)
        return record

    def _epoch(self, interrupted: threading.Event) -> None:
        self.model.train()
        for batch in self.batches:
            measures = self._learn(*batch)
            self._means.add(measures, samples=len(batch[0]))
            self.step += 1
            for callback in self.callbacks:
                callback.after_step(self, measures)
            if interrupted.is_set():
                self._stop()

    def _finish_epoch(self) -> dict[str, Any]:
        record = {"epoch": self.batches.epoch, "step": self.step, **self._means.take()}
        if self.validation is not None and self.score is not None:
            found = measure(self.model, self.score, self.validation)
            record |= {f"validation_{name}": value for name, value in found.items()}
        if self.folder:
            self.folder.log(record)
            self.folder.save(self.step, self.state_dict())
        for callback in self.callbacks:
            callback.after_epoch(self, record)
        return record

    def _stop(self) -> None:
        if self.folder is None:
            raise KeyboardInterrupt
        self.folder.save(self.step, self.state_dict())
        raise InterruptedRun(
            step=self.step,
            folder=self.folder.path,
            command=f"Trainer(..., folder=RunFolder({str(self.folder.path)!r})).resume()",
        )

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        current().flush()
        kept = {name: part.state_dict() for name, part in self._kept.items()}
        return {"step": self.step, **kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; where a part does not fit, nothing changes.

        Raises:
            KeyError: a part is missing.
            ChainruleError: a part belongs to another model, optimizer or data set.
        """
        before = self.state_dict()
        try:
            self._take(state)
        except BaseException:
            self._take(before)
            raise

    def _take(self, state: Mapping[str, Any]) -> None:
        for name, part in self._kept.items():
            part.load_state_dict(state[name])
        self.step = int(state["step"])

    def resume(self) -> None:
        """Go on from the newest whole checkpoint of the run folder.

        Raises:
            CheckpointError: there is none, or it belongs to another model.
            OptionError: the trainer has no folder.
        """
        if self.folder is None:
            raise OptionError(
                name="folder", expected="the folder of the run to go on with", got=None
            )
        state = self.folder.load()
        try:
            self.load_state_dict(state)
        except (ChainruleError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                path=self.folder.path,
                problem=f"its checkpoint does not fit this run ({error})",
                problem_zh=f"检查点与这次训练不符({error})",
                mend="resume with the model, the optimizer and the data that the run began with",
                mend_zh="请用开始训练时的模型、优化器和数据继续",
            ) from error
        self.folder.forget_after(self.batches.epoch)


class _Random:
    """The seed and the counter that random numbers come from."""

    def state_dict(self) -> dict[str, Any]:
        return {"seed": generator.seed.value, "counter": generator.counter.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        generator.seed.commit(np.asarray(state["seed"], np.int64))
        generator.counter.commit(np.asarray(state["counter"], np.int64))


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that no step is left half done; a second one interrupts at once.

    Signals reach the main thread only; elsewhere the event is never set.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(signum: int, frame: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)  # None: not set from Python
