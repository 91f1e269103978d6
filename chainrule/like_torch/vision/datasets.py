"""``torchvision.datasets``: MNIST."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainrule.data import Split, cache_folder, mnist
from chainrule.errors import DataError
from chainrule.like_torch.missing import refuse
from chainrule.like_torch.utils.data import Dataset
from chainrule.tensor.tensor import tensor

__path__: list[str] = []


class MNIST(Dataset):
    """Handwritten digits, 28 x 28: 60,000 to train, 10,000 to test; ``(image, class)`` by number.

    The files are looked for in ``root/MNIST/raw``, then in ``$CHAINRULE_DATA`` and in the cache.

    Args:
        root: a folder, as for torchvision.
        train: the training part, or the test part.
        transform: a PIL image to what the sample shall be, such as ``transforms.ToTensor()``.
        target_transform: the same for the class.
        download: fetch the files (into the cache) when they are not there.

    Attributes:
        data: the images, uint8, (samples, 28, 28).
        targets: the classes, int64, (samples,).

    Raises:
        DataError: the files are not there and ``download`` is False, or they are damaged.
    """

    classes = (
        "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four",
        "5 - five", "6 - six", "7 - seven", "8 - eight", "9 - nine",
    )  # fmt: skip

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        raw = Path(root, "MNIST", "raw")
        folders = [raw, *_standard_folders()]
        if not download and not any(_has_files(folder) for folder in folders):
            raise DataError(
                path=raw,
                problem="MNIST is not there",
                problem_zh="没有 MNIST 数据",
                mend="datasets.MNIST(root, download=True)",
            )
        split = _load(raw if _has_files(raw) else None)
        part = split.train if train else split.held_out
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        self._images = part.images
        self._labels = part.labels
        self.data = tensor(part.images)
        self.targets = tensor(part.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        image: Any = Image.fromarray(self._images[index])
        target: Any = int(self._labels[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        return len(self._labels)


@functools.lru_cache(maxsize=1)
def _load(folder: Path | None) -> Split:
    return mnist(folder)


def _standard_folders() -> list[Path]:
    given = os.environ.get("CHAINRULE_DATA")
    return [*([Path(given, "mnist"), Path(given)] if given else []), cache_folder("mnist")]


def _has_files(folder: Path) -> bool:
    return any(folder.glob("*-ubyte*"))


__getattr__ = refuse(__name__)
