"""Damaged and malicious files of weights: a clear error or a correct load, and nothing is run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from chainrule import formats
from chainrule.errors import CheckpointError
from chainrule.formats import pickles
from chainrule.formats.torch_checkpoint import MAGIC

MUTANTS = 5000
LARGE = [0x7F, 0x80, 0xFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1]

STATE = OrderedDict(
    weight=torch.arange(24, dtype=torch.float32).reshape(4, 6),
    half=torch.arange(5).half(),
    brain=torch.arange(5).bfloat16(),
    transposed=torch.arange(6, dtype=torch.float64).reshape(2, 3).t(),
    labels=torch.tensor([1, 2, 3]),
    flags=torch.tensor([True, False]),
    step=torch.tensor(7),
)


def written(zipped: bool, content: Any = STATE, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def seeds() -> list[bytes]:
    contiguous = {name: value.contiguous() for name, value in STATE.items()}
    return [
        written(True),
        written(False),
        written(True, {"model": STATE, "epoch": 3, "names": ["a", None, (1, 2.5)]}, 4),
        written(False, {"model": STATE, "epoch": 3, "names": ["a", None, (1, 2.5)]}, 4),
        save(contiguous, {"made by": "a test"}),
    ]


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One to four changes: bytes, lengths, pieces cut out, put in or doubled, the end cut off."""
    made = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        at = draw.randrange(len(made)) if made else 0
        match draw.randrange(8):
            case 0:
                made[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                made[at : at + 1] = bytes([made[at] ^ (1 << draw.randrange(8))]) if made else b""
            case 2:
                del made[at:]
            case 3:
                del made[at : at + draw.randrange(1, 40)]
            case 4:
                made[at:at] = made[at : at + draw.randrange(1, 40)]
            case 5:
                width = draw.choice([1, 2, 4, 8])
                number = draw.choice(LARGE) % 256**width
                made[at : at + width] = number.to_bytes(width, "little")
            case 6:  # another instruction, in the part that is a pickle
                opcode = draw.choice(list(pickles._OPCODES)).encode("latin-1")
                made[at : at + 1] = opcode
            case _:
                made[at:at] = draw.randbytes(draw.randrange(1, 12))
    return bytes(made)


def check(content: Any) -> None:
    """What was read is plain, and every number in it can be looked at."""
    seen, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            assert value.nbytes < 1_000_000
            value.tobytes()
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value


def forbid_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever could run code, or find it, fails the test."""

    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"code of a file was run: {arguments}")

    for module, names in {
        os: ("system", "popen", "remove", "unlink", "_exit"),
        builtins: ("eval", "exec"),
        pickle: ("loads", "load", "Unpickler"),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, refuse)


def test_mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(20)
    path = tmp_path / "x"
    originals = seeds()
    for original in originals:  # also imports what reading needs, before that is forbidden
        path.write_bytes(original)
        check(formats.read(path))
    "".encode("cp437")  # zipfile imports it at the first name that is not UTF-8
    forbid_code(monkeypatch)
    loaded = refused = 0
    modules = set(sys.modules)
    tracemalloc.start()
    for number in range(MUTANTS):
        path.write_bytes(mutate(originals[number % len(originals)], draw))
        try:
            check(formats.read(path))
            loaded += 1
        except CheckpointError as error:
            refused += 1
            assert str(error).startswith(str(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert loaded > MUTANTS / 20, "the mutants are too wild to test much"
    assert refused > MUTANTS / 3, "the mutants are too tame to test much"
    assert peak < 5_000_000, "more memory than a small file can need"
    assert set(sys.modules) == modules


def test_every_truncation(tmp_path: Path) -> None:
    """No whole state comes out of a part of a file."""
    path = tmp_path / "x"
    for original in (written(True), written(False), seeds()[-1]):
        for length in range(0, len(original), 7):
            path.write_bytes(original[:length])
            with pytest.raises(CheckpointError):
                formats.load(path)


# ------------------------------------------------------------------------------ malicious


class Evil:
    """Pickled, it calls a function when it is loaded by Python."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


ATTACKS = {
    "os.system": Evil(os.system, ("touch pwned",)),
    "eval": Evil(eval, ("1 + 1",)),
    "getattr": Evil(getattr, ("", "upper")),
    "hidden in a dict": {"weight": [1, (2, Evil(os.system, ("touch pwned",)))]},
    "build": Evil(OrderedDict, (), {"__class__": Evil(os.getcwd, ())}),
    "import": Evil(__import__, ("antigravity",)),
    "bytes": Evil(bytes, (10**12,)),
    "range": Evil(list, (range(10**9),)),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_attacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, zipped: bool, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x"
    path.write_bytes(written(zipped, ATTACKS[name], protocol))
    with pytest.raises(CheckpointError, match="nothing of this file was run"):
        formats.read(path)
    assert os.listdir(tmp_path) == ["x"]


def legacy(*instructions: bytes, rest: bytes = b"") -> bytes:
    """A file in the old format whose third pickle is written by hand."""
    head = b"".join(pickle.dumps(x, 2) for x in (MAGIC, 1001, {"little_endian": True}))
    return head + b"\x80\x02" + b"".join(instructions) + b"." + rest


def text(word: str) -> bytes:
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def storage(key: str, length: int, kind: str = "Float") -> bytes:
    number = b"\x8a\x0a" + length.to_bytes(10, "little", signed=True)
    named = b"ctorch\n" + f"{kind}Storage".encode() + b"\n"
    return b"(" + text("storage") + named + text(key) + text("cpu") + number + b"Nt" + b"Q"


def tensor(key: str, length: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    shape = pickle.dumps(size, 2)[2:-1] + pickle.dumps(stride, 2)[2:-1]
    return rebuild + b"(" + storage(key, length) + b"K\0" + shape + b"\x89}tR"


TAIL = pickle.dumps(["0"], 2) + (2).to_bytes(8, "little") + bytes(8)
HOSTILE = {
    "huge storage": legacy(storage("0", 2**60), rest=TAIL),
    "negative storage": legacy(storage("0", -5), rest=TAIL),
    "huge shape": legacy(tensor("0", 2, (2**40, 2**40), (1, 1)), rest=TAIL),
    "huge shape, no strides": legacy(tensor("0", 2, (2**40,), (0,)), rest=TAIL),
    "huge shape of nothing": legacy(tensor("0", 2, (0, 2**70), (1, 1)), rest=TAIL),
    "beyond the storage": legacy(tensor("0", 2, (2,), (2,)), rest=TAIL),
    "negative stride": legacy(tensor("0", 2, (2,), (-1,)), rest=TAIL),
    "huge stride": legacy(tensor("0", 2, (2,), (2**70,)), rest=TAIL),
    "shape and strides differ": legacy(tensor("0", 2, (2,), (1, 1)), rest=TAIL),
    "two lengths": legacy(b"(" + storage("0", 2) + storage("0", 1) + b"t", rest=TAIL),
    "no such keys": legacy(b"N", rest=TAIL),
    "empty stack": legacy(b"0"),
    "no mark": legacy(b"t"),
    "unknown memo": legacy(b"h\x07"),
    "items of a number": legacy(b"K\x01K\x02K\x03s"),
    "items of a tensor": legacy(tensor("0", 2, (2,), (1,)), b"K\x00K\x03s", rest=TAIL),
    "call of a tensor": legacy(tensor("0", 2, (2,), (1,)), b")R", rest=TAIL),
    "call of text": legacy(text("os.system"), b")R"),
    "an endless text": legacy(b"\x8d" + (2**62).to_bytes(8, "little")),
    "a long number of text": legacy(b"I" + b"9" * 100_000 + b"\n"),
    "deep tuples as key": legacy(b"}", b")" + b"\x85" * 100_000, b"Ns"),
    "safetensors of a huge header": (2**62).to_bytes(8, "little") + b"{" + bytes(30),
    "safetensors of a huge tensor": (80).to_bytes(8, "little")
    + b'{"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}'.ljust(80)
    + bytes(8),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        formats.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_the_handmade_file_is_right_otherwise(tmp_path: Path) -> None:
    """So the hostile files above fail for the reason that their names say."""
    path = tmp_path / "x"
    path.write_bytes(legacy(tensor("0", 2, (2, 1), (1, 1)), rest=TAIL))
    assert formats.read(path).tolist() == [[0.0], [0.0]]


def test_a_bomb_of_references(tmp_path: Path) -> None:
    """Lists of the same list, 60 deep: as many leaves as no memory holds, and no trouble."""
    doubled = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
    path = tmp_path / "x"
    path.write_bytes(legacy(doubled, rest=pickle.dumps([], 2)))
    check(formats.read(path))


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    """A deflated member could be a thousand times as long as the file."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="compressed, or longer"):
        formats.read(tmp_path / "x")


def test_members_stay_inside(tmp_path: Path) -> None:
    """The key of a storage is no path: what is outside the archive is not looked at."""
    (tmp_path / "secret").write_bytes(bytes(8))
    content = written(True, {"w": torch.zeros(2)})
    assert content.count(b"X\x01\x00\x00\x000") == 1
    path = tmp_path / "x"
    import zipfile

    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"X\x01\x00\x00\x000", text("../../secret"))
            new.writestr(name, data)
    with pytest.raises(CheckpointError, match="secret"):
        formats.read(path)
