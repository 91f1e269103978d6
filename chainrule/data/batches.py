"""Batches in an order fixed by seed and epoch, from a position that can be saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.errors import OptionError, ShapeError

Array = np.ndarray[Any, Any]


class Batches:
    """The rows of one or more arrays, batch by batch.

    A ``for`` loop gives the rest of the current epoch and ends; the next loop is the next epoch.
    The position moves on just before a batch is handed out, so a state taken while working on a
    batch names the batch after it, and a resumed run neither repeats nor skips a row.

    Args:
        arrays: arrays with the same number of rows (first axis), such as images and labels.
        batch_size: rows in a batch; the last one of an epoch may have fewer.
        shuffle: a new random order every epoch.
        seed: fixes the orders, 0..2^64-1: epoch e of seed s has the same order on every machine.
        drop_last: leave out a last batch that is not full.

    Attributes:
        epoch: epochs finished.
        batch: batches of this epoch handed out.

    Raises:
        ShapeError: no arrays, or different numbers of rows.
        OptionError: a batch size below 1, a negative seed, or no full batch with ``drop_last``.

    >>> import numpy as np
    >>> from chainrule.data import Batches
    >>> batches = Batches([np.arange(5), np.arange(5) * 10], batch_size=2, shuffle=False)
    >>> for x, y in batches:
    ...     print(x, y)
    [0 1] [ 0 10]
    [2 3] [20 30]
    [4] [40]
    >>> batches.epoch
    1
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.arrays = tuple(np.asarray(array) for array in arrays)
        rows = {len(array) if array.ndim else None for array in self.arrays}
        if len(rows) != 1 or None in rows:
            raise ShapeError(
                op="Batches",
                expected="arrays with the same number of rows",
                got=", ".join(str(array.shape) for array in self.arrays) or "none",
                mend="the first axis of every array counts the samples",
            )
        if batch_size < 1:
            raise OptionError(name="batch_size", expected="at least 1", got=batch_size)
        if not 0 <= seed < 1 << 64:
            raise OptionError(name="seed", expected="in 0..2^64-1", got=seed)
        self.rows = len(self.arrays[0])
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0
        self.batch = 0
        if drop_last and not len(self):
            raise OptionError(
                name="batch_size",
                expected=f"at most {self.rows}, the number of rows, with drop_last",
                got=batch_size,
                mend="use a smaller batch, or drop_last=False",
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return (self.rows if self.drop_last else self.rows + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        order = self.order(self.epoch)
        while self.batch < len(self):
            start = self.batch * self.batch_size
            chosen = order[start : start + self.batch_size]
            self.batch += 1
            yield tuple(array[chosen] for array in self.arrays)
        self.epoch += 1
        self.batch = 0

    def order(self, epoch: int) -> Array:
        """The row numbers in the order of an epoch: int64, each once.

        Shuffled, it sorts the rows by random numbers of Philox with the key (seed, epoch). NumPy
        promises those numbers for all versions, which it does not for ``permutation``.
        """
        if not self.shuffle:
            return np.arange(self.rows)
        # An array, not a list: NumPy would read a list of a large and a small int as float64.
        key = np.array([self.seed, epoch], np.uint64)
        return np.argsort(np.random.Philox(key=key).random_raw(self.rows), kind="stable")

    def state_dict(self) -> dict[str, int]:
        """The position, and what fixes the order: whole numbers, ready for JSON."""
        return {"epoch": self.epoch, "batch": self.batch, **self._identity()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a saved position.

        Raises:
            OptionError: the state was saved with other data or settings, or is not a position.
        """
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise OptionError(
                    name=name,
                    expected=f"{state.get(name)} as in the saved position",
                    got=mine,
                    mend="resume with the data and the settings of the interrupted run",
                )
        epoch, batch = state.get("epoch", -1), state.get("batch", -1)
        if epoch < 0 or not 0 <= batch <= len(self):
            raise OptionError(
                name="position",
                expected=f"an epoch and a batch of 0..{len(self)}",
                got=f"epoch {epoch}, batch {batch}",
            )
        self.epoch, self.batch = epoch, batch

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "rows": self.rows,
            "batch_size": self.batch_size,
            "shuffle": int(self.shuffle),
            "drop_last": int(self.drop_last),
        }
