"""Modules made of modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chainrule.nn.module import Module


class Sequential(Module):
    """Modules one after the other; each gets what the one before gave.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))(cr.ones(1, 4)).shape
        (1, 2)
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping | OrderedDict):
            named = list(modules[0].items())
        else:
            named = [(str(index), module) for index, module in enumerate(modules)]
        for name, module in named:
            self.add_module(name, module)

    def forward(self, x: Any) -> Any:
        """The last module's output."""
        for module in self:
            x = module(x)
        return x

    def append(self, module: Module) -> Sequential:
        """Add a module at the end."""
        setattr(self, str(len(self)), module)
        return self

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __getitem__(self, index: int | slice) -> Any:
        found = list(self.named_children())[index]
        return Sequential(dict(found)) if isinstance(found, list) else found[1]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, list(self.named_children())[index][0], module)


class _Container(Module):
    """Modules that are called one by one: their names begin with the container's."""

    def _child_scope(self, name: str) -> str:
        return f"{self._scope}.{name}" if self._scope else name

    def _name_scope(self, scope: str) -> None:
        super()._name_scope(scope)
        for name, child in self.named_children():
            child._name_scope(self._child_scope(name))


class ModuleList(_Container):
    """A list of modules, so that their parameters are found."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        setattr(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __getitem__(self, index: int | slice) -> Any:
        found = list(self.children())[index]
        if not isinstance(found, list):
            return found
        part = ModuleList()
        vars(part).update({str(i): module for i, module in enumerate(found)})  # names stay
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, str(range(len(self))[index]), module)


class ModuleDict(_Container):
    """A dict of modules, so that their parameters are found."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        for name, module in (modules or {}).items():
            self.add_module(name, module)

    def __getitem__(self, name: str) -> Module:
        return dict(self.named_children())[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __contains__(self, name: str) -> bool:
        return name in dict(self.named_children())

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.named_children())

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def keys(self) -> list[str]:
        """The names."""
        return [name for name, _ in self.named_children()]

    def values(self) -> list[Module]:
        """The modules."""
        return list(self.children())

    def items(self) -> list[tuple[str, Module]]:
        """Names and modules."""
        return list(self.named_children())
