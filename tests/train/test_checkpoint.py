"""Checkpoints: what goes in comes out, and damage is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import chainrule as cr
from chainrule.errors import CheckpointError
from chainrule.train import load_checkpoint, save_checkpoint

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint32, np.uint8, np.bool_]),
    arrays.array_shapes(min_dims=0, min_side=0, max_side=3),
)
STATES = st.dictionaries(
    st.text(),
    st.recursive(
        PLAIN | ARRAYS,
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=8,
    ),
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@given(state=STATES)
def test_what_goes_in_comes_out(state: dict[str, Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "state.safetensors"
    save_checkpoint(path, state)
    assert same(state, load_checkpoint(path))


def test_names_that_look_alike(tmp_path: Path) -> None:
    state = {
        "a/b": np.zeros(1),
        "a": {"b": np.ones(1), "$tensor": np.zeros(2)},
        "$items": [{"$tensor": "x"}],
        "": {1: {2: np.ones(3)}},
    }
    save_checkpoint(tmp_path / "x", state)
    assert same(state, load_checkpoint(tmp_path / "x"))


def test_tensors_come_back_as_arrays(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x", {"w": cr.tensor([[1.5, 2.0]])})
    assert same(load_checkpoint(tmp_path / "x")["w"], np.array([[1.5, 2.0]], np.float32))


def test_a_file_cut_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"w": np.arange(4.0), "step": 3})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            load_checkpoint(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_file_of_another_program(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"step": 1})

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
