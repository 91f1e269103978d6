"""A pickle machine that can build lists, tuples, dicts, text and numbers, and nothing else.

A pickle is a program: it may name any function of any module and call it, which is why loading one
with Python's own ``pickle`` can run any code. This machine knows the instructions that data needs,
and looks names up in the table it is given; a name that is not there ends the reading.

What a file makes is bounded by its length: nothing that is made is copied, and a length that a
file claims is compared with the bytes that are there before they are read.

Source: the comments of Python's ``pickletools``, which also reads the instructions' arguments here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from chainrule.formats.files import Malformed


class Readable(Protocol):
    """A file whose ``read(n)`` takes no memory for bytes that are not there: BytesIO, mmap."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


@dataclass(frozen=True)
class Maker:
    """Stands for a function or a class of another program; ``make`` is called in its place."""

    make: Callable[..., Any]


Names = Mapping[str, Any]  # "module.name" -> a Maker, or a plain value
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}


def unpickle(file: Readable, names: Names, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The object that one pickle describes; the file is left just after it.

    Args:
        file: at the beginning of a pickle.
        names: what stands for the functions and classes that the pickle may name.
        persistent: what stands for an object that is kept outside the pickle, from its identity.

    Raises:
        Malformed: names what the machine has no instruction or no name for.
        ValueError, IndexError, KeyError, TypeError: the pickle is damaged.
    """
    machine = _Machine(names, persistent)
    while True:
        code = file.read(1)
        if not code:
            raise EOFError("the pickle does not end")
        opcode = _OPCODES.get(code.decode("latin-1"))
        step = _STEPS.get(opcode.name) if opcode else None
        if opcode is None or step is None:
            name = opcode.name if opcode else repr(code)
            raise Malformed(
                f"it has the pickle instruction {name}, which plain data does not need",
                f"它含有 pickle 指令 {name},普通数据并不需要",
                *MEND,
            )
        argument = opcode.arg.reader(cast(IO[bytes], file)) if opcode.arg else None
        if opcode.name == "STOP":
            return machine.pop()
        step(machine, argument)


MEND = (
    "in PyTorch, write torch.save(model.state_dict(), path); nothing of this file was run",
    "请在 PyTorch 中用 torch.save(model.state_dict(), path) 保存;此文件中的任何代码都没有被执行",
)


class _Machine:
    """A stack of values, the stacks below the marks, and the values kept for later."""

    def __init__(self, names: Names, persistent: Callable[[Any], Any] | None) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.names = names
        self.persistent = persistent

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """The values since the last mark."""
        values = self.stack
        self.stack = self.below.pop()
        return values

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError(f"it appends to a {type(target).__name__}")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise TypeError(f"it sets items of a {type(target).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value

    def name(self, full: str) -> None:
        if full not in self.names:
            raise Malformed(
                f"it needs {full[:80]}, which is neither a tensor nor plain data",
                f"它需要 {full[:80]},这既不是张量也不是普通数据",
                *MEND,
            )
        self.push(self.names[full])

    def stack_global(self, _: None) -> None:
        module, name = self.last(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a name that is not text")
        self.name(f"{module}.{name}")

    def reduce(self, _: None) -> None:
        maker, arguments = self.last(2)
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise TypeError(f"it calls a {type(maker).__name__}")
        self.push(maker.make(*arguments))

    def build(self, _: None) -> None:
        """Attributes of an OrderedDict (``_metadata`` of a state dict) are left out."""
        self.pop()
        if type(self.stack[-1]) is not dict:
            raise TypeError(f"it sets attributes of a {type(self.stack[-1]).__name__}")

    def outside(self, _: None) -> None:
        if self.persistent is None:
            raise TypeError("it refers to an object outside itself")
        self.push(self.persistent(self.pop()))


def plain_key(key: Any) -> Any:
    """The key of a dict: text or a number. (Hashing deeply nested tuples could end the process.)"""
    if not isinstance(key, str | int | float | bytes | None):
        raise TypeError(f"a {type(key).__name__} as a key")
    return key


def _text(value: str | bytes) -> str:
    """Text of Python 2 arrives as bytes, or as latin-1."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


_LITERALS = (
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    # numbers and text
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(_LITERALS, _Machine.push),
    "BINSTRING": lambda machine, value: machine.push(_text(value)),
    "SHORT_BINSTRING": lambda machine, value: machine.push(_text(value)),
    # containers
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "TUPLE1": lambda machine, _: machine.push(machine.last(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.last(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.last(3)),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items(list(machine.last(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    # values used again
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    # names, and what is made with them
    "GLOBAL": lambda machine, full: machine.name(full.replace(" ", ".")),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.outside,
}
