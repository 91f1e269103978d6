"""The embedded digits, MNIST and its download."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from chainrule import data
from chainrule.data import cache, sources
from chainrule.data.download import download
from chainrule.errors import DataError


@pytest.fixture(autouse=True)
def no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data folder, no mirror, an empty cache."""
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.delenv("CHAINRULE_MIRROR", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))


# ------------------------------------------------------------------------------ digits


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    train, held_out = data.digits()
    out = np.arange(1797) % 5 == 4
    np.testing.assert_array_equal(held_out.images, theirs.images[out])
    np.testing.assert_array_equal(held_out.labels, theirs.target[out])
    np.testing.assert_array_equal(train.images, theirs.images[~out])
    np.testing.assert_array_equal(train.labels, theirs.target[~out])
    assert (len(train), len(held_out)) == (1438, 359)
    assert train.images.dtype == np.uint8
    assert train.labels.dtype == np.int64
    assert train.classes == tuple("0123456789")


def test_scaled() -> None:
    train, _ = data.digits()
    scaled = train.scaled()
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_array_equal(scaled * 16, train.images)


# ------------------------------------------------------------------------------ a small MNIST


def image_file(count: int = 6) -> bytes:
    pixels = np.arange(count * 4, dtype=np.uint8)
    return b"\0\0\x08\x03" + np.array([count, 2, 2], ">u4").tobytes() + pixels.tobytes()


def label_file(labels: bytes = bytes(range(6))) -> bytes:
    return b"\0\0\x08\x01" + np.array([len(labels)], ">u4").tobytes() + labels


FILES = {
    "train-images-idx3-ubyte": image_file(),
    "train-labels-idx1-ubyte": label_file(),
    "t10k-images-idx3-ubyte": image_file(2),
    "t10k-labels-idx1-ubyte": label_file(b"\x09\x08"),
}


def fill(folder: Path, *, zipped: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_mnist_of_a_folder(tmp_path: Path, below: str, zipped: bool) -> None:
    fill(tmp_path / "数据 1" / below, zipped=zipped)
    train, held_out = data.mnist(tmp_path / "数据 1")
    assert train.images.shape == (6, 2, 2)
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert held_out.labels.tolist() == [9, 8]
    assert train.white == 255


def test_mnist_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "given" / "mnist")
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "given"))
    assert len(data.mnist().train) == 6


def test_mnist_of_the_cache() -> None:
    fill(cache.cache_folder("mnist"))
    assert len(data.mnist().train) == 6


def test_real_mnist(data_dir: Path) -> None:
    train, held_out = data.mnist(data_dir)
    assert train.images.shape == (60000, 28, 28)
    assert held_out.images.shape == (10000, 28, 28)
    assert np.bincount(train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    # The mean and deviation that every tutorial normalises with.
    assert train.scaled().mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert train.scaled().std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train-labels-idx1-ubyte", label_file(bytes(5)), "5 labels for the 6 images"),
        (
            "train-labels-idx1-ubyte",
            label_file(b"\0\0\x0a\0\0\0"),
            r"label 2 is 10, outside 0\.\.9",
        ),
        ("train-labels-idx1-ubyte", image_file(), "expected uint8 with 1 axes"),
        ("train-images-idx3-ubyte", label_file(), "expected uint8 with 3 axes"),
        ("t10k-images-idx3-ubyte", image_file()[:-3], "ends at byte 37"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    folder = fill(tmp_path / "mnist")
    (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=says) as error:
        data.mnist(folder)
    assert name in str(error.value)


# ------------------------------------------------------------------------------ download


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that serves the small MNIST."""
    fill(tmp_path / "served")
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes of the small MNIST in place of the real ones."""
    for constant in ("_TRAIN_IMAGES", "_TRAIN_LABELS", "_TEST_IMAGES", "_TEST_LABELS"):
        name = getattr(sources, constant).name
        content = FILES[name]
        pin = sources._File(name, len(content), hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(sources, constant, pin)


@pytest.mark.usefixtures("pinned")
def test_download_once(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_MIRROR", server)
    assert len(data.mnist().train) == 6
    assert sorted(p.name for p in cache.cache_folder("mnist").iterdir()) == sorted(
        f"{name}.gz" for name in FILES
    )
    shutil.rmtree(tmp_path / "served")
    assert len(data.mnist().held_out) == 2


def test_wrong_content_is_not_kept(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINRULE_MIRROR", f"{server}/")
    with pytest.raises(DataError, match="should be 47040016 bytes, SHA-256 ba89") as error:
        data.mnist(tmp_path / "root")
    assert f"{server}/train-images-idx3-ubyte.gz: " in str(error.value)
    assert "CHAINRULE_MIRROR" in str(error.value)
    assert list((tmp_path / "root").iterdir()) == []


def test_a_download_that_never_ends_is_stopped(server: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "long").write_bytes(bytes(1 << 20))
    with pytest.raises(DataError, match="the server sends more than"):
        download(f"{server}/long", tmp_path / "to" / "long", size=10, sha256="")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_packed_bomb_is_not_unpacked(server: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "bomb").write_bytes(gzip.compress(bytes(50 << 20)))
    with pytest.raises(DataError, match="should be 1000 bytes, SHA-256 , but is 262144 bytes"):
        download(f"{server}/bomb", tmp_path / "to" / "bomb", size=1000, sha256="")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("{server}/none", "HTTP Error 404"),
        ("http://127.0.0.1:9", "failed"),
        ("none", "unknown url"),
    ],
)
def test_no_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setenv("CHAINRULE_MIRROR", address.format(server=server))
    with pytest.raises(DataError, match=says) as error:
        data.mnist(tmp_path / "root")
    assert f"put the four MNIST files into the folder {tmp_path / 'root'}" in str(error.value)
    assert list((tmp_path / "root").iterdir()) == []


def test_pinned_hashes_are_those_of_the_files(data_dir: Path) -> None:
    from chainrule.data.download import verify

    for pin in (
        sources._TRAIN_IMAGES,
        sources._TRAIN_LABELS,
        sources._TEST_IMAGES,
        sources._TEST_LABELS,
    ):
        verify(data_dir / "mnist" / f"{pin.name}.gz", size=pin.size, sha256=pin.sha256)


# ------------------------------------------------------------------------------ cache


@pytest.mark.parametrize(
    ("platform", "settings", "expected"),
    [
        ("linux", {}, "~/.cache/chainrule/x"),
        ("linux", {"XDG_CACHE_HOME": "/var/c"}, "/var/c/chainrule/x"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "~/.cache/chainrule/x"),
        ("darwin", {"XDG_CACHE_HOME": "/var/c"}, "~/Library/Caches/chainrule/x"),
        ("win32", {}, "~/AppData/Local/chainrule/x"),
        ("win32", {"LOCALAPPDATA": "/L"}, "/L/chainrule/x"),
        ("linux", {"CHAINRULE_CACHE": "~/mine"}, "~/mine/x"),
        ("win32", {"CHAINRULE_CACHE": "mine", "LOCALAPPDATA": "/L"}, "mine/x"),
    ],
)
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, platform: str, settings: dict[str, str], expected: str
) -> None:
    for name in ("CHAINRULE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache.cache_folder("x") == Path(expected).expanduser()
