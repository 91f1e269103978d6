"""What PyTorch has and this library lacks: an error that says so, and what to use instead.

A module calls :func:`refuse` for its ``__getattr__``. A wrong ``import`` never gets that far, since
Python makes it an ImportError without our words; :class:`_Refuser` answers those.
"""

from __future__ import annotations

import difflib
import importlib.abc
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from chainrule.errors import MissingFeatureError, MissingModuleError

PACKAGE = "chainrule.like_torch"

# PyTorch's name: what to do here, in English and in Chinese. "torchvision" is "torch.vision" here.
HINTS: dict[str, tuple[str, str]] = {
    "torch.compile": (
        "cr.compile(step) compiles a whole training step (import chainrule as cr).",
        "cr.compile(step) 编译整个训练步骤(import chainrule as cr)。",
    ),
    "torch.jit": (
        "cr.compile(step) compiles a whole training step.",
        "cr.compile(step) 编译整个训练步骤。",
    ),
    "torch.amp": (
        "leave mixed precision out: everything is float32, or float64.",
        "去掉混合精度:这里只有 float32 和 float64。",
    ),
    "torch.cuda": (
        'leave it out; a GPU is reached with cr.set_executor("torch").',
        '去掉它;通过 cr.set_executor("torch") 使用 GPU。',
    ),
    "torch.distributed": (
        "leave it out: training runs in one process.",
        "去掉它:训练在一个进程中进行。",
    ),
    "torch.multiprocessing": ("leave it out: data is read in threads.", "去掉它:数据用线程读取。"),
    "torch.nn.DataParallel": (
        "use the model itself: there is one device.",
        "直接使用模型本身:只有一个设备。",
    ),
    "torch.nn.parallel": (
        "use the model itself: there is one device.",
        "直接使用模型本身:只有一个设备。",
    ),
    "torch.autograd.functional": ("use cr.grad(function).", "请用 cr.grad(function)。"),
    "torch.autograd.set_detect_anomaly": (
        "leave it out; cr.explain(model, x, y, loss=...) shows every value of a step.",
        "去掉它;cr.explain(model, x, y, loss=...) 会显示一步中的每个数值。",
    ),
    "torch.func": (
        "use cr.grad and cr.value_and_grad.",
        "请用 cr.grad 和 cr.value_and_grad。",
    ),
    "torch.float16": ("use torch.float32.", "请用 torch.float32。"),
    "torch.half": ("use torch.float32.", "请用 torch.float32。"),
    "torch.bfloat16": ("use torch.float32.", "请用 torch.float32。"),
    "torch.empty": (
        "use torch.zeros: a tensor here is never without values.",
        "请用 torch.zeros:这里的张量总是有值的。",
    ),
    "torch.optim.LBFGS": ("use optim.Adam or optim.SGD.", "请用 optim.Adam 或 optim.SGD。"),
    "torch.utils.tensorboard": (
        "append the numbers to a list, or use chainrule.train, which writes metrics.jsonl.",
        "把数值加入列表,或使用 chainrule.train,它会写 metrics.jsonl。",
    ),
    "torch.utils.data.IterableDataset": (
        "write a Dataset with __len__ and __getitem__.",
        "请写带 __len__ 和 __getitem__ 的 Dataset。",
    ),
    "torch.vision.models": (
        "build the network from layers (import chainrule.like_torch.nn as nn).",
        "请用各种层搭建网络(import chainrule.like_torch.nn as nn)。",
    ),
}


def _torch_name(module: str, name: str) -> str:
    """``chainrule.like_torch.nn`` and ``Foo`` to ``torch.nn.Foo``."""
    return f"torch{module.removeprefix(PACKAGE)}.{name}"


def facts(module: str, name: str, known: Sequence[str]) -> dict[str, str]:
    """The facts of the error for a name that ``module`` has not."""
    full = _torch_name(module, name)
    said = full
    while said and said not in HINTS:
        said = said.rpartition(".")[0]
    found = {"name": full.replace("torch.vision", "torchvision")}
    if said:
        found["mend"], found["mend_zh"] = HINTS[said]
    elif near := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
        found["mend"], found["mend_zh"] = f"did you mean {near[0]}?", f"您是否想写 {near[0]}?"
    else:
        found["mend"] = "write it with the tensor functions there are, or leave it out."
        found["mend_zh"] = "请用已有的张量函数实现,或去掉它。"
    return found


def refuse(module: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for a module: every name it lacks is a MissingFeatureError."""

    def __getattr__(name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise MissingFeatureError(**facts(module, name, _public(module)))

    return __getattr__


def _public(module: str) -> list[str]:
    return [name for name in vars(sys.modules[module]) if not name.startswith("_")]


class _Refuser(importlib.abc.MetaPathFinder):
    """Asked last, when no module of that name was found."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        parent, _, name = fullname.rpartition(".")
        if (parent + ".").startswith(PACKAGE + ".") and not name.startswith("_"):
            raise MissingModuleError(**facts(parent, name, _public(parent)))


sys.meta_path.append(_Refuser())
