"""``torch.utils.data``: datasets, samplers, and batches in an order fixed by the seed."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.errors import OptionError, ShapeError
from chainrule.like_torch import making
from chainrule.like_torch.making import Generator, randperm
from chainrule.like_torch.missing import refuse
from chainrule.tensor.functions import stack
from chainrule.tensor.tensor import Tensor, tensor

__path__: list[str] = []


class Dataset:
    """Samples by number: write ``__len__`` and ``__getitem__``."""

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__()")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class TensorDataset(Dataset):
    """Row i of each tensor is sample i."""

    def __init__(self, *tensors: Tensor) -> None:
        if len({x.shape[:1] for x in tensors}) != 1:
            raise ShapeError(
                op="TensorDataset",
                expected="tensors with the same number of rows",
                got=", ".join(str(x.shape) for x in tensors) or "none",
                mend="the first axis of every tensor counts the samples",
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(x[index] for x in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class Subset(Dataset):
    """The samples of a dataset that ``indices`` name."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """Datasets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        self.cumulative_sizes = list(itertools.accumulate(map(len, self.datasets)))

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]
        number = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][index - before]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(
    dataset: Any, lengths: Sequence[float], generator: Generator | None = None
) -> list[Subset]:
    """A dataset cut into parts at random.

    Args:
        dataset: what to cut.
        lengths: the number of samples of each part, or its share (together 1).
        generator: where the random order comes from; ``torch.manual_seed`` when not given.

    Raises:
        OptionError: the lengths do not add up to the dataset.
    """
    total = len(dataset)
    sizes = [int(length) for length in lengths]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = [math.floor(total * share) for share in lengths]
        for extra in range(total - sum(sizes)):  # what rounding left over, one each from the first
            sizes[extra % len(sizes)] += 1
    if sum(sizes) != total:
        raise OptionError(
            name="lengths",
            expected=f"numbers that add up to {total}, the samples of the dataset",
            got=str(list(lengths)),
            mend="n = len(dataset) * 8 // 10; random_split(dataset, [n, len(dataset) - n])",
        )
    order = randperm(total, generator=generator).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


# ------------------------------------------------------------------------------ order


class Sampler:
    """The order in which samples are taken: write ``__iter__`` and ``__len__``."""

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def __iter__(self) -> Iterator[int]:
        raise NotImplementedError(f"{type(self).__name__} has no __iter__()")


class SequentialSampler(Sampler):
    """As they stand."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(SequentialSampler):
    """A new random order each time, from the generator or from ``torch.manual_seed``."""

    def __init__(self, data_source: Any, generator: Generator | None = None) -> None:
        super().__init__(data_source)
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        yield from randperm(len(self), generator=self.generator).tolist()


class SubsetRandomSampler(Sampler):
    """The given samples in a new random order each time."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for position in randperm(len(self), generator=self.generator).tolist():
            yield int(self.indices[position])

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """``num_samples`` samples, each drawn in proportion to its weight."""

    def __init__(
        self,
        weights: Any,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        self.weights = tensor(weights, dtype="float64")
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        drawn = making.multinomial(
            self.weights, self.num_samples, self.replacement, generator=self.generator
        )
        yield from drawn.tolist()

    def __len__(self) -> int:
        return self.num_samples


# ------------------------------------------------------------------------------ batches


def default_collate(batch: Sequence[Any]) -> Any:
    """Samples joined to a batch: tensors, arrays and numbers stacked, containers part by part."""
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(batch)
    if isinstance(first, np.ndarray | np.generic):
        return tensor(np.stack(batch))
    if isinstance(first, float):
        return tensor(np.array(batch))  # float64, as in PyTorch
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, dict):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, list | tuple):
        parts = [default_collate(part) for part in zip(*batch, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    if isinstance(first, str | bytes):
        return list(batch)
    raise OptionError(
        name="a sample's part",
        expected="a tensor, an array, a number, text, or a list, tuple or dict of them",
        got=type(first).__name__,
        mend="convert it in __getitem__ (with transforms.ToTensor() for an image), "
        "or give DataLoader a collate_fn",
    )


class DataLoader:
    """The batches of a dataset.

    Their order is a function of the seed: of ``torch.manual_seed``, or of ``generator``.

    Args:
        dataset: ``len(dataset)`` and ``dataset[i]``.
        batch_size: samples in a batch; the last one may have fewer.
        shuffle: a new random order in every ``for`` loop.
        sampler: another order: anything to loop over that gives sample numbers.
        collate_fn: a list of samples to a batch; :func:`default_collate` when not given.
        drop_last: leave out a last batch that is not full.
        generator: where the random order comes from.
        num_workers, pin_memory, persistent_workers, prefetch_factor, timeout, worker_init_fn:
            accepted, without effect.

    Raises:
        OptionError: a batch size below 1, or ``shuffle`` together with ``sampler``.

    Example:
        >>> import chainrule.like_torch as torch
        >>> from chainrule.like_torch.utils.data import DataLoader, TensorDataset
        >>> for (x,) in DataLoader(TensorDataset(torch.arange(5)), batch_size=2):
        ...     print(x.tolist())
        [0, 1]
        [2, 3]
        [4]
    """

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Any = None,
        *,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        generator: Generator | None = None,
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        timeout: float = 0,
        worker_init_fn: Any = None,
    ) -> None:
        if batch_size < 1:
            raise OptionError(name="batch_size", expected="at least 1", got=batch_size)
        if shuffle and sampler is not None:
            raise OptionError(name="shuffle", expected="False with a sampler", got=True)
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.collate_fn = collate_fn or default_collate
        if sampler is not None:
            self.sampler = sampler
        elif shuffle:
            self.sampler = RandomSampler(dataset, generator)
        else:
            self.sampler = SequentialSampler(dataset)

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        order = iter(self.sampler)
        while chosen := list(itertools.islice(order, self.batch_size)):
            if len(chosen) == self.batch_size or not self.drop_last:
                yield self._batch(chosen)

    def _batch(self, chosen: list[int]) -> Any:
        dataset, rows = self.dataset, chosen
        while type(dataset) is Subset:
            dataset, rows = dataset.dataset, [dataset.indices[row] for row in rows]
        if type(dataset) is TensorDataset and self.collate_fn is default_collate:
            return list(dataset[tensor(rows)])  # the same batch, taken in one go
        return self.collate_fn([self.dataset[index] for index in chosen])


__getattr__ = refuse(__name__)
