"""``utils.data`` and ``vision``: datasets, batches, and an order that follows from the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as oracle

import chainrule.like_torch as torch
from chainrule import errors
from chainrule.like_torch.utils import data
from chainrule.like_torch.vision import datasets, transforms


class Squares(data.Dataset):
    """Samples made one by one."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(index), float(index**2)]), index


def numbers(loader: data.DataLoader) -> list[list[int]]:
    return [batch[-1].tolist() for batch in loader]


def tensors() -> data.TensorDataset:
    return data.TensorDataset(torch.arange(20).view(10, 2).float(), torch.arange(10))


@pytest.mark.parametrize("dataset", [Squares(), tensors()])
def test_batches_in_order(dataset: Any) -> None:
    loader = data.DataLoader(dataset, batch_size=4)
    assert numbers(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3
    assert [x.shape for x, _ in loader] == [(4, 2), (4, 2), (2, 2)]
    whole = data.DataLoader(dataset, batch_size=4, drop_last=True, num_workers=2, pin_memory=True)
    assert len(whole) == len(numbers(whole)) == 2


@pytest.mark.parametrize("dataset", [Squares(), tensors(), data.Subset(tensors(), range(10))])
def test_shuffled_order_is_a_function_of_the_seed(dataset: Any) -> None:
    def epochs(seed: int) -> list[list[list[int]]]:
        torch.manual_seed(seed)
        loader = data.DataLoader(dataset, batch_size=4, shuffle=True)
        return [numbers(loader) for _ in range(2)]

    first = epochs(0)
    assert epochs(0) == first != epochs(1)
    assert first[0] != first[1]
    assert sorted(n for batch in first[0] for n in batch) == list(range(10))


def test_generator_of_the_loader() -> None:
    def order(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return numbers(data.DataLoader(tensors(), 4, shuffle=True, generator=generator))

    torch.manual_seed(0)
    first = order(3)
    torch.manual_seed(1)
    assert order(3) == first


def test_random_split() -> None:
    parts = data.random_split(tensors(), [7, 3], generator=torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(int(part[i][1]) for part in parts for i in range(len(part))) == list(range(10))
    shares = data.random_split(tensors(), [0.75, 0.25])
    theirs = oracle.utils.data.random_split(range(10), [0.75, 0.25])
    assert [len(part) for part in shares] == [len(part) for part in theirs]
    with pytest.raises(errors.OptionError, match="add up to 10"):
        data.random_split(tensors(), [7, 2])


def test_samplers() -> None:
    chosen = data.SubsetRandomSampler([1, 3, 5])
    loader = data.DataLoader(tensors(), batch_size=2, sampler=chosen)
    assert sorted(n for batch in numbers(loader) for n in batch) == [1, 3, 5]
    assert len(loader) == 2
    both = data.ConcatDataset([tensors(), Squares()])
    assert len(both) == 20
    assert int(both[13][1]) == 3
    assert int((tensors() + Squares())[-1][1]) == 9


class Pair(NamedTuple):
    x: Any
    y: Any


@pytest.mark.parametrize(
    "sample",
    [
        1.5,
        2,
        True,
        np.ones(3, np.float32),
        np.float64(2.0),
        {"a": 1, "b": np.zeros(2, np.float32)},
        (1, [2.0, 3]),
        Pair(1, 2.0),
    ],
)
def test_collate_as_pytorch(sample: Any) -> None:
    ours = data.default_collate([sample, sample])
    theirs = oracle.utils.data.default_collate([sample, sample])

    def same(a: Any, b: Any) -> None:
        if isinstance(b, dict):
            assert a.keys() == b.keys()
            for key in b:
                same(a[key], b[key])
        elif isinstance(b, list | tuple):
            assert type(a) is type(b)
            for left, right in zip(a, b, strict=True):
                same(left, right)
        else:
            assert str(a.dtype) == str(b.dtype).removeprefix("torch.")
            np.testing.assert_array_equal(a.numpy(), b.numpy())

    same(ours, theirs)


def test_collate_text_and_refuse_the_rest() -> None:
    assert data.default_collate(["a", "b"]) == ["a", "b"]
    with pytest.raises(errors.OptionError, match="ToTensor"):
        data.default_collate([object(), object()])


def test_wrong_options() -> None:
    with pytest.raises(errors.OptionError, match="batch_size"):
        data.DataLoader(tensors(), batch_size=0)
    with pytest.raises(errors.OptionError, match="sampler"):
        data.DataLoader(tensors(), shuffle=True, sampler=data.SequentialSampler(tensors()))
    with pytest.raises(errors.ShapeError, match="same number of rows"):
        data.TensorDataset(torch.zeros(2), torch.zeros(3))


# ------------------------------------------------------------------------------ vision


def test_transforms() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    x = transforms.ToTensor()(image)
    assert (x.shape, x.dtype) == ((3, 2, 4), torch.float32)
    np.testing.assert_array_equal(x.numpy(), np.moveaxis(image, 2, 0).astype(np.float32) / 255)
    prepare = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize((0.5,), (0.25,)),
            transforms.Lambda(lambda x: x.flatten()),
        ]
    )
    y = prepare(image[:, :, 0])
    expected = (image[:, :, 0].astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(y.numpy(), expected.ravel(), rtol=1e-6)
    with pytest.raises(errors.ShapeError, match="ToTensor"):
        transforms.ToTensor()(np.zeros(3))


def test_mnist_trains(data_dir: Path, tmp_path: Path) -> None:
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    train = datasets.MNIST(tmp_path, train=True, download=True, transform=transform)
    test = datasets.MNIST(tmp_path, train=False, transform=transform)
    assert (len(train), len(test)) == (60000, 10000)
    assert (train.data.shape, train.targets[:5].tolist()) == ((60000, 28, 28), [5, 0, 4, 1, 9])
    picture, label = datasets.MNIST(tmp_path)[0]
    assert (picture.size, label) == ((28, 28), 5)

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    loader = data.DataLoader(data.Subset(train, range(3200)), batch_size=64, shuffle=True)
    for images, labels in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    images, labels = next(iter(data.DataLoader(test, batch_size=1000)))
    with torch.no_grad():
        accuracy = (net(images).argmax(dim=1) == labels).float().mean().item()
    assert accuracy > 0.75


def test_mnist_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(datasets, "cache_folder", lambda name: tmp_path / "cache" / name)
    with pytest.raises(errors.DataError, match="download=True"):
        datasets.MNIST(tmp_path)
