"""Module: a layer, or a network of layers, with its parameters and buffers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, ParamSpec, Self

import numpy as np

from chainrule.core.dtype import as_dtype, is_float
from chainrule.core.graph import Variable, caller, is_program, place
from chainrule.core.op import located
from chainrule.errors import (
    ChainruleError,
    MissingFeatureError,
    OptionError,
    StateDictError,
    closest,
)
from chainrule.tensor.device import is_device, require_cpu
from chainrule.tensor.state import Epoch, current
from chainrule.tensor.tensor import Tensor, tensor, to_array
from chainrule.tensor.variable import VariableTensor, drop_gradients


class Parameter(VariableTensor):
    """A tensor that is learned: it collects a gradient and an optimizer updates it.

    Example:
        >>> from chainrule import nn
        >>> nn.Parameter([1.0, 2.0]).requires_grad
        True
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(Variable(to_array(data), "", trainable=requires_grad))


class Buffer(VariableTensor):
    """A tensor that is kept with a module but not learned, such as running statistics."""

    __slots__ = ("persistent",)

    def __init__(self, data: Any, persistent: bool = True) -> None:
        """``persistent=False`` leaves it out of :meth:`Module.state_dict`."""
        super().__init__(Variable(to_array(data), "", trainable=False))
        self.persistent = persistent


class Keys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not find a partner for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"Keys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


P = ParamSpec("P")


def takes_device(init: Callable[P, None]) -> Callable[P, None]:
    """An ``__init__`` that also takes PyTorch's ``device``; only the CPU exists here."""

    @functools.wraps(init)
    def call(*args: P.args, **options: P.kwargs) -> None:
        require_cpu(options.pop("device", None))
        init(*args, **options)

    return call


class Module:
    """Base of every layer and network.

    Assign parameters, buffers and other modules as attributes; write ``forward``. Names in
    :meth:`state_dict` are the attribute names joined by dots, as in PyTorch.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fc = nn.Linear(2, 1)
        ...     def forward(self, x):
        ...         return self.fc(x).sigmoid()
        >>> Net()(cr.ones(4, 2)).shape
        (4, 1)
    """

    training: bool = True
    frozen: bool = False
    _scope: str = ""
    _is_program: ClassVar[bool] = False  # lines of its forward() are the user's

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        code = getattr(cls.forward, "__code__", None)
        cls._is_program = code is None or is_program(code)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            value._name_scope(self._child_scope(name))
        elif isinstance(value, Parameter | Buffer):
            value.variable.name = name
        if not place.trace and vars(self).get(name, self) is not value:
            Epoch.bump()
        object.__setattr__(self, name, value)

    def _child_scope(self, name: str) -> str:
        """What a module inside is called in messages, after the names of those that call it."""
        return name

    def _name_scope(self, scope: str) -> None:
        object.__setattr__(self, "_scope", scope)

    def __delattr__(self, name: str) -> None:
        Epoch.bump()
        object.__delattr__(self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # As scope() does, without the cost of a context. What a layer of the library makes is of
        # the line that called it, which is looked for once.
        before, line = place.scope, place.source
        if self._scope:
            place.scope = (*before, self._scope)
        if self._is_program:
            place.source = None
        elif line is None:
            place.source = caller()
        try:
            data = [tensor(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
            return self.forward(*data, **kwargs)
        except ChainruleError as error:
            raise located(error) from None
        finally:
            place.scope, place.source = before, line

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; call the module, not this."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    # ------------------------------------------------------------------ its parts

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, by name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules directly inside."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, by path; a module that stands twice comes once."""
        seen: set[int] = set()
        yield from self._walk(prefix, seen)

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all inside it."""
        return (module for _, module in self.named_modules())

    def _named(self, kind: type[VariableTensor]) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, kind) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter by path; a shared one once."""
        return self._named(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer by path."""
        return self._named(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """Every buffer."""
        return (buffer for _, buffer in self.named_buffers())

    def add_module(self, name: str, module: Module) -> None:
        """Assign a module under a name made at run time.

        Raises:
            OptionError: the name is that of a method, which it would hide.
        """
        if callable(getattr(type(self), name, None)):
            raise OptionError(
                name="a module's name", expected=f"no method of {type(self).__name__}",
                got=repr(name), mend=f"call it {name}_, for example",
            )  # fmt: skip
        setattr(self, name, module)

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Assign a buffer (PyTorch's way to write ``self.name = Buffer(value)``)."""
        setattr(self, name, None if value is None else Buffer(value, persistent))

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Assign a parameter under a name made at run time."""
        setattr(self, name, value)

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call a function on every module inside, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ------------------------------------------------------------------ mode

    def train(self, mode: bool = True) -> Self:
        """Training mode: dropout drops, batch norm measures."""
        return self._mark("training", mode)

    def _mark(self, flag: str, value: bool) -> Self:
        """Set a flag on every module inside; compiled steps notice when one changed."""
        for module in self.modules():
            if getattr(module, flag) != value:
                object.__setattr__(module, flag, value)
                Epoch.flip((id(module), flag))
        return self

    def eval(self) -> Self:
        """Inference mode: dropout passes everything, batch norm uses its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Learn, or do not learn, every parameter inside."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def freeze(self) -> Self:
        """Stop learning everything inside. Frozen means frozen: statistics do not drift either."""
        return self._mark("frozen", True).requires_grad_(False)

    def unfreeze(self) -> Self:
        """Learn everything inside again."""
        return self._mark("frozen", False).requires_grad_(True)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; harmless, since ``optimizer.step()`` does it too."""
        drop_gradients(self.parameters())

    # ------------------------------------------------------------------ type

    def to(
        self, *targets: object, dtype: object = None, device: object = None, **_: object
    ) -> Self:
        """Change the float type of parameters and buffers; a device is accepted, and is the CPU."""
        for target in (*targets, dtype, device):
            if target is None:
                continue
            if is_device(target):
                require_cpu(target)
                continue
            kind = as_dtype(target)
            current().flush()
            for value in (*self.parameters(), *self.buffers()):
                if is_float(value.dtype):
                    value.variable.commit(value.variable.value.astype(kind))
            Epoch.bump()
        return self

    def double(self) -> Self:
        """Parameters and buffers in float64."""
        return self.to("float64")

    def float(self) -> Self:
        """Parameters and buffers in float32."""
        return self.to("float32")

    def cpu(self) -> Self:
        """The module itself; there is only the CPU."""
        return self

    def cuda(self, device: object = None) -> Self:
        """Refused: parameters are on the CPU.

        Raises:
            DeviceError: always.
        """
        require_cpu("cuda")
        return self

    def half(self) -> Self:
        """Refused: there are no 16-bit floats.

        Raises:
            MissingFeatureError: always.
        """
        raise MissingFeatureError(
            name="Module.half", mend="leave it out: parameters are float32, or .double()",
            mend_zh="去掉它:参数是 float32,或用 .double()",
        )  # fmt: skip

    bfloat16 = half

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Tensor]:
        """A snapshot of every parameter and buffer by path: later training does not change it."""
        return {name: tensor(value.numpy()) for name, value in self._state()}

    def _state(self, prefix: str = "") -> Iterator[tuple[str, VariableTensor]]:
        """As PyTorch orders it: parameters, buffers, then the modules inside.

        What stands at two places comes twice.
        """
        for kind in (Parameter, Buffer):
            for name, value in vars(self).items():
                if isinstance(value, kind) and (kind is Parameter or value.persistent):
                    yield f"{prefix}{name}", value
        for name, child in self.named_children():
            yield from child._state(f"{prefix}{name}.")

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Keys:
        """Take values over from a state dict; nothing changes unless everything fits.

        Args:
            state: arrays or tensors by path.
            strict: refuse missing and unknown keys (shapes must fit always).

        Returns:
            The keys that were missing, and those that are unknown.

        Raises:
            StateDictError: names every key and shape that does not fit.
        """
        own = dict(self._state())
        keys = Keys(
            [key for key in own if key not in state], [key for key in state if key not in own]
        )
        lines = []
        if strict:
            lines += [f"    missing key {key}" for key in keys.missing_keys]
            for key in keys.unexpected_keys:
                near = closest(key, own)
                lines.append(
                    f"    unknown key {key}" + (f" (did you mean {near}?)" if near else "")
                )
        arrays = {key: np.asarray(state[key]) for key in own if key in state}
        for key, array in arrays.items():
            if array.shape != own[key].shape:
                lines.append(f"    {key} has shape {array.shape}, the model needs {own[key].shape}")
        if lines:
            raise StateDictError(
                module=type(self).__name__,
                lines="\n".join(lines),
                mend="build the model with the sizes it was saved with; strict=False skips keys",
            )
        current().flush()
        for key, array in arrays.items():
            own[key].variable.commit(array.astype(own[key].dtype))
        return keys

    # ------------------------------------------------------------------ printing

    def extra_repr(self) -> str:
        """The arguments shown in the module's line."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, child in self.named_children():
            first, *rest = repr(child).split("\n")
            lines.append(f"  ({name}): {first}")
            lines += [f"  {line}" for line in rest]
        inside = "\n".join(["", *lines, ""]) if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"
