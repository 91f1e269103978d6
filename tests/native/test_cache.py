"""Compiled kernels on disk: found again, verified, and not needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.core.graph import Graph, TensorType
from chainrule.core.op import input
from chainrule.core.ops import linear
from chainrule.core.ops.arithmetic import exp, tanh
from chainrule.core.ops.shape import permute
from chainrule.run.native import cache, jit
from chainrule.run.native.plan import Plan

X = np.linspace(-1, 1, 7, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a process that remembers nothing."""
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    jit.object_for.cache_clear()
    yield tmp_path / "kernels"
    jit.object_for.cache_clear()


def run_once() -> int:
    """A plan is made and run; how many kernels were written as LLVM text for it."""
    before = jit.emitted
    x = input(TensorType(X.shape, X.dtype), "x")
    (found,) = Plan(Graph([x], [exp(x) * 2]))([X], [])
    np.testing.assert_allclose(found, np.exp(X) * 2, rtol=1e-6)
    return jit.emitted - before


def again() -> int:
    """As in a new process."""
    jit.object_for.cache_clear()
    return run_once()


def test_a_warm_start_writes_no_text(folder: Path) -> None:
    assert run_once() >= 1
    assert again() == 0
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*")} == {0o600}


def test_kernels_are_made_on_all_cores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code is the same, however many threads make it."""
    x = input(TensorType((40, 30), X.dtype), "x")
    y = linear.matmul(tanh(linear.matmul(x, permute(x, (1, 0)))), exp(x) * 2)
    code = []
    for cores in (1, 4):
        monkeypatch.setattr(jit, "usable_cores", lambda cores=cores: cores)
        jit.object_for.cache_clear()
        before = jit.emitted
        Plan(Graph([x], [y]), fused=False)
        assert jit.emitted - before == len(list(folder.glob("*.o"))) > 2
        code.append({path.name: path.read_bytes() for path in folder.glob("*.o")})
        cache.clear()
    assert code[0] == code[1]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "digest"])
def test_a_damaged_entry_is_made_again(folder: Path, damage: str) -> None:
    run_once()
    for path in folder.glob("rows_*.o"):
        data = path.read_bytes()
        path.write_bytes({
            "cut": data[:-1], "flipped": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
            "empty": b"", "digest": bytes(32) + data[32:],
        }[damage])  # fmt: skip
    assert again() == 1
    assert again() == 0


def test_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file"))
    assert again() == 1
    assert again() == 1


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(cache.tempfile, "mkstemp", refuse)
    assert run_once() == 1
    assert not list(folder.glob("*"))


def test_the_folder_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 5000)
    for number in range(8):
        cache.store(f"entry{number}", bytes(1000))
        os.utime(folder / f"entry{number}.o", (number, number))
    kept = sorted(path.name for path in folder.glob("*.o"))
    assert kept == [f"entry{number}.o" for number in range(4, 8)]
    assert not list(folder.glob("*.part"))


def test_what_was_read_lately_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3200)
    for number in range(3):
        cache.store(f"entry{number}", bytes(1000))
        os.utime(folder / f"entry{number}.o", (number, number))
    assert cache.load("entry0") == bytes(1000)
    cache.store("entry3", bytes(1000))
    assert {path.stem for path in folder.glob("*.o")} == {"entry0", "entry2", "entry3"}


def test_the_size_is_looked_at_first_and_then_now_and_then(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    monkeypatch.setattr(cache, "_files", lambda place, suffix: looks.append(suffix) or [])
    monkeypatch.setattr(cache, "LIMIT_BYTES", 64 * 5000)
    monkeypatch.setattr(cache, "_unchecked", None)
    seen = []
    for number in range(8):
        cache.store(f"entry{number}", bytes(1000))
        seen.append(looks.count(".o"))
    assert seen == [1, 1, 1, 1, 1, 2, 2, 2]


def test_what_a_killed_process_left_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_unchecked", None)
    folder.mkdir()
    for name, age in (("old", 7200), ("new", 0)):
        path = folder / f"{name}.part"
        path.write_bytes(b"")
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    cache.store("entry", b"object")
    assert {path.name for path in folder.glob("*")} == {"entry.o", "new.part"}


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_a_folder_that_others_can_write_to_is_left_alone(folder: Path) -> None:
    run_once()
    folder.chmod(0o777)
    kept = sorted(folder.glob("*"))
    for path in kept:
        path.unlink()
    assert again() == 1
    assert not list(folder.glob("*"))
    folder.chmod(0o700)
    cache.store("entry", b"object")
    folder.chmod(0o770)
    assert cache.load("entry") is None
    assert cache.contents().state.startswith("not used: other users")


def test_reading_survives_where_the_time_cannot_be_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "read-only")

    cache.store("entry", b"object")
    monkeypatch.setattr(cache.os, "utime", refuse)
    assert cache.load("entry") == b"object"


def test_contents_and_clear(folder: Path) -> None:
    assert cache.contents() == cache.Contents(folder, 0, 0, cache.LIMIT_BYTES, "not made yet")
    assert cache.clear() == (0, 0)
    for name in "abc":
        cache.store(name, bytes(68))
    found = cache.contents()
    assert (found.entries, found.nbytes, found.state) == (3, 300, "in use")
    assert cache.clear() == (3, 0)
    assert cache.contents().entries == 0


def test_processes_that_store_load_and_forget_at_once(folder: Path) -> None:
    """Each process reads what it finds, writes the same names, and the bound is far too small."""
    program = """
import hashlib, sys
from chainrule.run.native import cache
cache.LIMIT_BYTES = 20_000
found = 0
for turn in range(150):
    number = (turn * 7 + int(sys.argv[1])) % 10
    image = hashlib.sha256(bytes([number])).digest() * 100
    got = cache.load(f"entry{number}")
    assert got in (None, image)
    found += got is not None
    cache.store(f"entry{number}", image)
print(found)
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(number)], stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        for number in range(4)
    ]  # fmt: skip
    printed = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert any(int(found) > 0 for found in printed)
    assert not list(folder.glob("*.part"))
    cache.store("last", b"")
    assert cache.contents().entries > 0


def test_many_processes_share_a_folder(folder: Path) -> None:
    program = (
        "import chainrule as cr; cr.set_executor('native')\n"
        "print(cr.compile(lambda x: cr.exp(x) * 2)(cr.tensor([0.0, 1.0])).tolist())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        for _ in range(3)
    ]  # fmt: skip
    printed = {process.communicate(timeout=60)[0] for process in running}
    assert len(printed) == 1
    assert not list(folder.glob("*.part"))


def test_keys_tell_kernels_apart() -> None:
    target = jit.host()
    one, other = (jit.key_of(("rows", number), target) for number in (1, 2))
    assert one != other
    assert one == jit.key_of(("rows", 1), target)
