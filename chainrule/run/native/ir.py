"""LLVM as text: typed values with Python's operators, loops whose body returns what it carries.

A :class:`Function` collects lines; a :class:`Value` names one of them and knows its type. Types are
LLVM's own words: ``float``, ``i64``, ``ptr``, ``<16 x float>``. No optimiser runs afterwards: what
is written here is what runs. There are no ``fast`` flags: sums keep the order in which they are
written, and a product is fused into a sum only by :meth:`Function.fma` (decision 11).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

Operand: TypeAlias = "Value | float | int"
SIZES = {"i1": 1, "i8": 1, "i32": 4, "i64": 8, "i128": 16, "float": 4, "double": 8, "ptr": 8}


def vector(lanes: int, element: str) -> str:
    """The type of ``lanes`` numbers side by side."""
    return f"<{lanes} x {element}>"


def element_of(type: str) -> str:
    """What a vector is made of; a scalar type is its own element."""
    return type[1:-1].split(" x ")[1] if type[0] == "<" else type


def lanes_of(type: str) -> int:
    """How many numbers a vector has; 0 for a scalar."""
    return int(type[1:].split(" ")[0]) if type[0] == "<" else 0


def with_element(type: str, element: str) -> str:
    """A type of the same number of lanes."""
    return vector(lanes_of(type), element) if type[0] == "<" else element


def is_float(type: str) -> bool:
    """Whether the elements are floating-point numbers."""
    return element_of(type) in ("float", "double")


def _suffix(type: str) -> str:
    """The type in the name of an overloaded intrinsic."""
    element = {"float": "f32", "double": "f64", "ptr": "p0"}.get(element_of(type), element_of(type))
    return f"v{lanes_of(type)}{element}" if type[0] == "<" else element


def _literal(number: float, element: str) -> str:
    if element == "float" and math.isfinite(number):
        number = struct.unpack("<f", struct.pack("<f", number))[0]
    if element in ("float", "double"):
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    return str(int(number))


class Value:
    """One result inside a function."""

    __slots__ = ("fn", "name", "type")

    def __init__(self, fn: Function, type: str, name: str) -> None:
        self.fn, self.type, self.name = fn, type, name

    def __str__(self) -> str:
        return self.name

    def _binary(self, float_op: str, whole_op: str, other: Operand, swap: bool = False) -> Value:
        right = self.fn.value(other, self.type)
        left, right = (right, self) if swap else (self, right)
        op = float_op if is_float(self.type) else whole_op
        return self.fn.op(self.type, f"{op} {self.type} {left}, {right}")

    def __add__(self, other: Operand) -> Value:
        return self._binary("fadd", "add", other)

    def __radd__(self, other: Operand) -> Value:
        return self._binary("fadd", "add", other, swap=True)

    def __sub__(self, other: Operand) -> Value:
        return self._binary("fsub", "sub", other)

    def __rsub__(self, other: Operand) -> Value:
        return self._binary("fsub", "sub", other, swap=True)

    def __mul__(self, other: Operand) -> Value:
        return self._binary("fmul", "mul", other)

    def __rmul__(self, other: Operand) -> Value:
        return self._binary("fmul", "mul", other, swap=True)

    def __truediv__(self, other: Operand) -> Value:
        return self._binary("fdiv", "sdiv", other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self._binary("fdiv", "sdiv", other, swap=True)

    def __floordiv__(self, other: Operand) -> Value:
        """The quotient of numbers without sign: counts and addresses."""
        return self._binary("", "udiv", other)

    def __mod__(self, other: Operand) -> Value:
        return self._binary("", "urem", other)

    def __and__(self, other: Operand) -> Value:
        return self._binary("", "and", other)

    def __or__(self, other: Operand) -> Value:
        return self._binary("", "or", other)

    def __xor__(self, other: Operand) -> Value:
        return self._binary("", "xor", other)

    def __lshift__(self, other: Operand) -> Value:
        return self._binary("", "shl", other)

    def __rshift__(self, other: Operand) -> Value:
        """Shift right, zeros coming in."""
        return self._binary("", "lshr", other)

    def shift_signed(self, other: Operand) -> Value:
        """Shift right, copies of the sign coming in."""
        return self._binary("", "ashr", other)

    def __neg__(self) -> Value:
        if is_float(self.type):
            return self.fn.op(self.type, f"fneg {self.type} {self}")
        return 0 - self

    def compare(self, predicate: str, other: Operand) -> Value:
        """Lanes of i1; predicates are LLVM's: ``olt`` is false beside NaN, ``ult`` true."""
        right = self.fn.value(other, self.type)
        op = "fcmp" if is_float(self.type) else "icmp"
        type = with_element(self.type, "i1")
        return self.fn.op(type, f"{op} {predicate} {self.type} {self}, {right}")

    def convert(self, op: str, element: str) -> Value:
        """``fpext``, ``sitofp``, ``trunc`` ... to another element, lane by lane."""
        type = with_element(self.type, element)
        return self.fn.op(type, f"{op} {self.type} {self} to {type}")

    def bits(self, element: str) -> Value:
        """The same bits as another element of the same size."""
        return self.convert("bitcast", element)

    # ------------------------------------------------------------------ pointers

    def at(self, index: Operand, element: str = "float") -> Value:
        """The address ``index`` elements further."""
        if isinstance(index, int) and index == 0:
            return self
        return self.fn.op("ptr", f"getelementptr {element}, ptr {self}, i64 {index}")

    def load(self, type: str, index: Operand = 0) -> Value:
        element = element_of(type)
        address = self.at(index, element)
        return self.fn.op(type, f"load {type}, ptr {address}, align {SIZES[element]}")

    def store(self, value: Value, index: Operand = 0) -> None:
        element = element_of(value.type)
        address = self.at(index, element)
        self.fn.do(f"store {value.type} {value}, ptr {address}, align {SIZES[element]}")


Body: TypeAlias = "Callable[..., Sequence[Value] | None]"


class Function:
    """One function of a :class:`Module`, written from top to bottom.

    Attributes:
        args: its arguments as values.
    """

    def __init__(
        self, module: Module, name: str, args: Sequence[tuple[str, str]], returns: str = "void",
        internal: bool = False,
    ) -> None:  # fmt: skip
        self.module, self.name = module, name
        self._lines: list[str] = []
        self._count = 0
        self._block = "entry"
        listed = ", ".join(f"{type} %{arg}" for type, arg in args)
        link, tail = ("internal ", " noinline") if internal else ("", "")
        tail += f' "tune-cpu"="{module.tune}"' if module.tune else ""
        self._head = f"define {link}{returns} @{name}({listed}) nounwind{tail} {{\nentry:"
        self.args = [Value(self, type.split(" ")[0], f"%{arg}") for type, arg in args]
        module.functions.append(self)

    # ------------------------------------------------------------------ lines

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self._lines.append(f"  {text}")

    def op(self, type: str, text: str) -> Value:
        """An instruction with a result."""
        result = self._fresh(type)
        self.do(f"{result} = {text}")
        return result

    def _fresh(self, type: str) -> Value:
        self._count += 1
        return Value(self, type, f"%v{self._count}")

    def label(self) -> str:
        """A name for a block that starts later."""
        self._count += 1
        return f"b{self._count}"

    def begin(self, label: str) -> None:
        """The block ``label`` starts here."""
        self._lines.append(f"{label}:")
        self._block = label

    def branch(self, condition: Value, yes: str, no: str) -> None:
        self.do(f"br i1 {condition}, label %{yes}, label %{no}")

    def jump(self, label: str) -> None:
        self.do(f"br label %{label}")

    def align_stack(self) -> None:
        """Let vectors that wait on the stack, such as constants of long chains, cross no lines.

        It costs a register, which loops over many tensors may need more.
        """
        self._head = self._head.replace(" nounwind", " nounwind alignstack(64)")

    def ret(self, value: Value | None = None) -> None:
        self.do(f"ret {value.type} {value}" if value is not None else "ret void")

    # ------------------------------------------------------------------ values

    def value(self, operand: Operand, type: str) -> Value:
        """The operand itself, or a number as a constant of ``type``."""
        if isinstance(operand, Value):
            return operand
        text = _literal(operand, element_of(type))
        if type[0] == "<":
            text = f"splat ({element_of(type)} {text})"
        return Value(self, type, text)

    def vector_of(self, numbers: Sequence[int], element: str) -> Value:
        """A constant vector of whole numbers, or of booleans for ``i1``."""
        texts = [("false", "true")[n] if element == "i1" else str(n) for n in numbers]
        listed = ", ".join(f"{element} {text}" for text in texts)
        return Value(self, vector(len(numbers), element), f"<{listed}>")

    def splat(self, scalar: Value, lanes: int) -> Value:
        """The scalar in every lane."""
        type = vector(lanes, scalar.type)
        one = self.op(type, f"insertelement {type} poison, {scalar.type} {scalar}, i64 0")
        return self.op(
            type, f"shufflevector {type} {one}, {type} poison, <{lanes} x i32> zeroinitializer"
        )

    def lane(self, v: Value, index: Operand) -> Value:
        return self.op(element_of(v.type), f"extractelement {v.type} {v}, i64 {index}")

    def shuffle(self, a: Value, b: Value, order: Sequence[int]) -> Value:
        """Lanes chosen from ``a`` (0, 1 ...) and from ``b`` (after those of ``a``)."""
        mask = ", ".join(f"i32 {index}" for index in order)
        return self.op(
            vector(len(order), element_of(a.type)),
            f"shufflevector {a.type} {a}, {b.type} {b}, <{len(order)} x i32> <{mask}>",
        )

    def select(self, condition: Value, yes: Operand, no: Operand) -> Value:
        """``yes`` where the condition holds; one of the two must be a value."""
        type = yes.type if isinstance(yes, Value) else no.type if isinstance(no, Value) else ""
        a, b = self.value(yes, type), self.value(no, type)
        return self.op(type, f"select {condition.type} {condition}, {type} {a}, {type} {b}")

    def intrinsic(self, name: str, *args: Value, returns: str | None = None) -> Value:
        """A call of ``llvm.name`` for the type of the first argument."""
        type = returns or args[0].type
        return self._call(f"llvm.{name}.{_suffix(args[0].type)}", type, args, declare=True)

    def call(self, name: str, returns: str, *args: Value) -> Value:
        """A call of a function of this module, or of an address."""
        return self._call(name, returns, args, declare=False)

    def _call(self, name: str, type: str, args: Sequence[Value], declare: bool) -> Value:
        if declare:
            self.module.declare(name, type, [arg.type for arg in args])
        target = name if name[0] == "%" else f"@{name}"
        text = f"call {type} {target}({', '.join(f'{arg.type} {arg}' for arg in args)})"
        if type == "void":
            self.do(text)
            return Value(self, "void", "")
        return self.op(type, text)

    def fma(self, a: Value, b: Operand, c: Operand) -> Value:
        """a b + c, rounded once where the machine can; else product and sum."""
        b, c = self.value(b, a.type), self.value(c, a.type)
        return self.intrinsic("fma", a, b, c) if self.module.has_fma else a * b + c

    def minimum(self, a: Value, b: Operand) -> Value:
        """The smaller of two whole numbers."""
        return self.select(a.compare("slt", b), a, b)

    # ------------------------------------------------------------------ memory under a mask

    def masked_load(
        self, address: Value, type: str, mask: Value, others: Value | None = None
    ) -> Value:
        """Lanes where the mask holds, zeros or ``others`` elsewhere; nothing is read there."""
        name = f"llvm.masked.load.{_suffix(type)}.p0"
        self.module.declare(name, type, ["ptr", mask.type, type])
        align = SIZES[element_of(type)]
        args = f"ptr align {align} {address}, {mask.type} {mask}, {type} "
        args += "zeroinitializer" if others is None else str(others)
        return self.op(type, f"call {type} @{name}({args})")

    def masked_store(self, address: Value, value: Value, mask: Value) -> None:
        """Store the lanes where the mask holds."""
        name = f"llvm.masked.store.{_suffix(value.type)}.p0"
        self.module.declare(name, "void", [value.type, "ptr", mask.type])
        align = SIZES[element_of(value.type)]
        args = f"{value.type} {value}, ptr align {align} {address}, {mask.type} {mask}"
        self.do(f"call void @{name}({args})")

    def prefetch(self, address: Value, writes: bool = False) -> None:
        """Bring a line of memory into the first cache, before it is read or written."""
        self.module.declare("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
        kind = f"i32 {int(writes)}, i32 3, i32 1"
        self.do(f"call void @llvm.prefetch.p0(ptr {address}, {kind})")

    # ------------------------------------------------------------------ control

    def loop(
        self, start: Operand, stop: Operand, step: Operand, carried: Sequence[Value], body: Body
    ) -> list[Value]:
        """``body(i, *carried)`` for i in range(start, stop, step); it returns the new carried.

        Returns:
            The carried values after the last pass.
        """
        low, high = self.value(start, "i64"), self.value(stop, "i64")
        head, out = self.label(), self.label()
        before = self._block
        self.branch(low.compare("slt", high), head, out)
        before = self._block
        self.begin(head)
        place = len(self._lines)
        index = self._fresh("i64")
        inside = [self._fresh(v.type) for v in carried]
        new = list(body(index, *inside) or ())
        following = index + step
        last = self._block
        self.branch(following.compare("slt", high), head, out)
        self._lines[place:place] = [
            f"  {v} = phi {v.type} [ {a}, %{before} ], [ {b}, %{last} ]"
            for v, a, b in zip([index, *inside], [low, *carried], [following, *new], strict=True)
        ]
        self.begin(out)
        return [
            self.op(a.type, f"phi {a.type} [ {a}, %{before} ], [ {b}, %{last} ]")
            for a, b in zip(carried, new, strict=True)
        ]

    def when(
        self, condition: Value, yes: Callable[[], Sequence[Value] | None],
        no: Callable[[], Sequence[Value] | None] | None = None,
    ) -> list[Value]:  # fmt: skip
        """One of two branches; they return as many values, which come out merged."""
        first, second, join = self.label(), self.label(), self.label()
        self.branch(condition, first, second)
        ends = []
        for label, branch in ((first, yes), (second, no)):
            self.begin(label)
            made = list((branch() if branch else None) or ())
            ends.append((made, self._block))
            self.jump(join)
        self.begin(join)
        (a, from_a), (b, from_b) = ends
        return [
            self.op(x.type, f"phi {x.type} [ {x}, %{from_a} ], [ {y}, %{from_b} ]")
            for x, y in zip(a, b, strict=True)
        ]

    def text(self) -> str:
        return "\n".join([self._head, *self._lines, "}"])


class Module:
    """Functions that become one object file; what it is told is in ``Target``."""

    def __init__(self, has_fma: bool, has_rounding: bool, tune: str = "") -> None:
        self.has_fma, self.has_rounding, self.tune = has_fma, has_rounding, tune
        self.functions: list[Function] = []
        self.globals: list[str] = []
        self._declared: set[str] = set()

    def declare(self, name: str, returns: str, types: Sequence[str]) -> None:
        """An intrinsic that is called."""
        self._declared.add(f"declare {returns} @{name}({', '.join(types)})")

    def has(self, name: str) -> bool:
        """Whether a function of this name was written."""
        return any(function.name == name for function in self.functions)

    def text(self) -> str:
        parts = [*sorted(self._declared), *self.globals, *(f.text() for f in self.functions)]
        return "\n".join(parts) + "\n"
