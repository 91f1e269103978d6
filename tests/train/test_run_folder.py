"""The run folder: its names, its metrics, and the checkpoints it keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainrule.errors import CheckpointError, DataError
from chainrule.train import RunFolder


def test_names_without_a_colon_and_never_twice(tmp_path: Path) -> None:
    made = [RunFolder.create("digits", {"seed": 1}, tmp_path).path for _ in range(3)]
    assert len(set(made)) == 3
    assert all(re.fullmatch(r"digits-\d{8}-\d{6}(-\d)?", path.name) for path in made)


def test_config_comes_back(tmp_path: Path) -> None:
    made = RunFolder.create("数字", {"seed": 1, "name": "手写"}, tmp_path)
    assert RunFolder(made.path).config == {"seed": 1, "name": "手写"}


@pytest.mark.parametrize("content", [None, "", "[1]", "{"])
def test_not_a_run_folder(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match="not a run folder" if content is None else "can't be read"):
        RunFolder(tmp_path)


def test_metrics_come_back_without_a_cut_last_line(tmp_path: Path) -> None:
    folder = RunFolder.create("x", {}, tmp_path)
    for epoch in (1, 2, 3):
        folder.log({"epoch": epoch, "loss": 0.1 * epoch})
    path = folder.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert folder.metrics() == [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 0.2}]
    folder.forget_after(1)
    assert folder.metrics() == [{"epoch": 1, "loss": 0.1}]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create("x", {}, tmp_path)
    (folder.path / "metrics.jsonl").write_text('{"epoch": 1}\nnothing\n{"epoch": 2}\n', "utf-8")
    with pytest.raises(DataError, match="line 2"):
        folder.metrics()


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = RunFolder.create("x", {}, tmp_path)
    for step in (8, 9, 10, 11, 100):
        folder.save(step, {"step": step})
    assert [path.name for path in folder.checkpoints()] == [
        f"step-{step}.safetensors" for step in (10, 11, 100)
    ]
    assert folder.load() == {"step": 100}


def test_the_newest_whole_checkpoint_is_loaded(tmp_path: Path) -> None:
    folder = RunFolder.create("x", {}, tmp_path)
    for step in (1, 2):
        folder.save(step, {"step": step})
    folder.checkpoints()[-1].write_bytes(b"half")
    assert folder.load() == {"step": 1}
    folder.checkpoints()[0].write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"step-2\.safetensors"):
        folder.load()


def test_no_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder.create("x", {}, tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint was saved yet"):
        folder.load()
