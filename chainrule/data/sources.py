"""Sets of labelled images: the embedded 8x8 digits, and MNIST."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chainrule.data.cache import cache_folder
from chainrule.data.download import download
from chainrule.data.idx import damaged, read_idx
from chainrule.errors import DataError

Array = np.ndarray[Any, Any]

DIGITS = tuple("0123456789")
HELD_OUT_EVERY = 5


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and what they show.

    Attributes:
        images: grey values 0..``white``, uint8, shape (samples, height, width).
        labels: the class number of each image, int64, shape (samples,).
        classes: the names of the classes.
        white: the grey value of full brightness.
    """

    images: Array
    labels: Array
    classes: tuple[str, ...]
    white: int

    def __len__(self) -> int:
        return len(self.labels)

    def scaled(self) -> Array:
        """The images as float32 in 0..1, same shape: grey value / ``white``."""
        return self.images.astype(np.float32) / np.float32(self.white)


class Split(NamedTuple):
    """A data set in two: to learn from, and to judge by.

    Attributes:
        train: what the model may learn from.
        held_out: what it is judged by, used for nothing else.
    """

    train: ImageSet
    held_out: ImageSet


def digits() -> Split:
    """1,797 handwritten digits of 8x8 pixels, grey values 0..16; part of the package.

    Every fifth row is held out: rows 4, 9, 14 ... counted from 0, 359 of them; 1,438 train.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0.

    >>> from chainrule.data import digits
    >>> train, held_out = digits()
    >>> train.images.shape, held_out.images.shape
    ((1438, 8, 8), (359, 8, 8))
    >>> held_out.labels[:5].tolist()
    [4, 9, 4, 9, 4]
    """
    packed = resources.files("chainrule.data").joinpath("files", "digits.csv.gz").read_bytes()
    rows = np.loadtxt(gzip.decompress(packed).decode().splitlines(), np.uint8, delimiter=",")
    images, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    out = np.arange(len(rows)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return Split(
        ImageSet(images[~out], labels[~out], DIGITS, white=16),
        ImageSet(images[out], labels[out], DIGITS, white=16),
    )


# ------------------------------------------------------------------------------ MNIST

MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


class _File(NamedTuple):
    """A file of the MNIST distribution: its name, and the size and hash of its unpacked content."""

    name: str
    size: int
    sha256: str


_TRAIN_IMAGES = _File(
    "train-images-idx3-ubyte",
    47_040_016,
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
_TRAIN_LABELS = _File(
    "train-labels-idx1-ubyte",
    60_008,
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
)
_TEST_IMAGES = _File(
    "t10k-images-idx3-ubyte",
    7_840_016,
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)
_TEST_LABELS = _File(
    "t10k-labels-idx1-ubyte",
    10_008,
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


def mnist(root: str | os.PathLike[str] | None = None) -> Split:
    """MNIST: 60,000 handwritten digits of 28x28 pixels to train, 10,000 held out; grey 0..255.

    The four idx files, gzipped or not, are looked for in ``root`` where it is given, else in
    ``$CHAINRULE_DATA`` and then in the cache; directly or in a folder ``mnist``. What is missing is
    downloaded into ``root`` or the cache, and its hash is checked; ``$CHAINRULE_MIRROR`` names
    another place to download from, the address that the files' names are appended to.

    Raises:
        DataError: a file is damaged, has labels outside 0..9, or can't be downloaded.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    given = os.environ.get("CHAINRULE_DATA") if root is None else root
    home = cache_folder("mnist") if root is None else Path(root)
    folders = [Path(given) / "mnist", Path(given)] if given else []

    def load(images: _File, labels: _File) -> ImageSet:
        paths = [_find(file, [*folders, home]) or _fetch(file, home) for file in (images, labels)]
        return read_images(paths[0], paths[1], DIGITS)

    return Split(load(_TRAIN_IMAGES, _TRAIN_LABELS), load(_TEST_IMAGES, _TEST_LABELS))


def read_images(images: Path, labels: Path, classes: tuple[str, ...]) -> ImageSet:
    """Images and labels from a pair of idx files of uint8.

    Raises:
        DataError: a file is damaged, the two do not fit, or a label is no class number.
    """
    pixels, numbers = read_idx(images), read_idx(labels)
    for path, array, ndim in ((images, pixels, 3), (labels, numbers, 1)):
        if array.dtype != np.uint8 or array.ndim != ndim:
            raise damaged(
                path,
                f"expected uint8 with {ndim} axes, but got {array.dtype} of shape {array.shape}",
                f"应为 {ndim} 维 uint8,实际为 {array.dtype},形状 {array.shape}",
            )
    if len(pixels) != len(numbers):
        raise damaged(
            labels,
            f"{len(numbers)} labels for the {len(pixels)} images of {images.name}",
            f"{images.name} 有 {len(pixels)} 张图像,标签却有 {len(numbers)} 个",
        )
    wrong = np.flatnonzero(numbers >= len(classes))
    if wrong.size:
        first = int(wrong[0])
        raise damaged(
            labels,
            f"label {first} is {numbers[first]}, outside 0..{len(classes) - 1}",
            f"第 {first} 个标签是 {numbers[first]},超出 0..{len(classes) - 1}",
        )
    return ImageSet(pixels, numbers.astype(np.int64), classes, white=255)


def _find(file: _File, folders: list[Path]) -> Path | None:
    """The file in the first of the folders that has it."""
    names = (file.name, f"{file.name}.gz")
    candidates = (folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def _fetch(file: _File, folder: Path) -> Path:
    mirror = os.environ.get("CHAINRULE_MIRROR") or MNIST_MIRROR
    name = f"{file.name}.gz"
    url = f"{mirror.rstrip('/')}/{name}"
    try:
        return download(url, folder / name, size=file.size, sha256=file.sha256)
    except DataError as error:
        error.facts["mend"] += (
            "; or set CHAINRULE_MIRROR to another place, or put the four MNIST files into the "
            f"folder {folder}"
        )
        error.facts["mend_zh"] += (
            f";或把 CHAINRULE_MIRROR 设为其他镜像,或把四个 MNIST 文件放入文件夹 {folder}"
        )
        raise
