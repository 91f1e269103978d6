"""One class per user mistake: where it is, what was expected, what came, and how to mend it.

Every message is written twice, in English and in Chinese; ``CHAINRULE_LANG=zh`` selects Chinese. A
message is a template over the ``facts`` given when the error is raised, so a program can read the
facts without parsing the text. The place (layer path and line of the user's file) is added by the
floor that knows it, through :meth:`ChainruleError.at`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Self

__all__ = [
    "BackwardError",
    "ChainruleError",
    "CheckpointError",
    "ChainruleWarning",
    "DataError",
    "DTypeError",
    "DeviceError",
    "ExecutorError",
    "GradcheckError",
    "IndexRangeError",
    "InPlaceError",
    "InterruptedRun",
    "LabelTypeError",
    "LayerInputError",
    "LeakedTensorError",
    "ManyPlansWarning",
    "MissingFeatureError",
    "MissingModuleError",
    "MissingPackageError",
    "NoGradientError",
    "NoKernelWarning",
    "NotScalarError",
    "OptionError",
    "ShapeError",
    "SoftmaxTwiceWarning",
    "Source",
    "StateDictError",
    "TracedValueError",
    "VerifierError",
    "closest",
    "language",
]


class Source(NamedTuple):
    """A line of the user's program."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


def language() -> str:
    """The language of messages: ``"zh"`` if ``CHAINRULE_LANG`` starts with it, else ``"en"``."""
    return "zh" if os.environ.get("CHAINRULE_LANG", "").lower().startswith("zh") else "en"


def closest(word: str, known: Iterable[str]) -> str:
    """The known word nearest to a misspelt one, or ``""``; used for "did you mean"."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else ""


class _Message:
    """Two templates per language (the problem, the mend), filled from facts when printed."""

    en: ClassVar[tuple[str, str]] = ("{problem}", "{mend}")
    zh: ClassVar[tuple[str, str]] = ("{problem}", "{mend}")

    facts: dict[str, Any]
    layer: str
    source: Source | None

    def _store(self, facts: dict[str, Any]) -> None:
        self.facts = {"problem": "", "mend": "", **facts}
        for key in ("problem", "mend"):  # what is not said in Chinese is said in English
            self.facts.setdefault(f"{key}_zh", self.facts[key])
        self.layer = ""
        self.source = None

    def at(self, layer: str, source: Source | None) -> Self:
        """Say where it happened, unless a deeper place is already known."""
        self.layer = self.layer or layer
        self.source = self.source or source
        return self

    def __str__(self) -> str:
        chinese = language() == "zh"
        problem, mend = (part.format(**self.facts) for part in (self.zh if chinese else self.en))
        place = ", ".join(str(part) for part in (self.layer, self.source) if part)
        text = f"{place}: {problem}" if place else problem
        if mend:
            text += f"\n  {'改法' if chinese else 'Mend'}: {mend}"
        return text


class ChainruleError(_Message, Exception):
    """Base of every error the library raises on purpose."""

    def __init__(self, **facts: Any) -> None:
        super().__init__()
        self._store(facts)


class ChainruleWarning(_Message, UserWarning):
    """Base of every warning: the program runs, but probably not as its author thinks."""

    def __init__(self, **facts: Any) -> None:
        super().__init__()
        self._store(facts)


class ShapeError(ChainruleError, ValueError):
    """Shapes that do not fit an operation."""

    en = ("{op} needs {expected}, but got {got}.", "{mend}")
    zh = ("{op}:需要 {expected},实际得到 {got}。", "{mend}")


class LayerInputError(ShapeError):
    """A layer was given the wrong number of features."""

    en = (
        "{name} expects {expected} input features in the last axis, but got {got} "
        "(input shape {shape}).",
        "make it {name}({got}, ...), or let the layer before it give {expected} features.",
    )
    zh = (
        "{name} 的最后一维需要 {expected} 个输入特征,实际得到 {got} 个(输入形状 {shape})。",
        "改成 {name}({got}, ...),或让前一层输出 {expected} 个特征。",
    )


class DTypeError(ChainruleError, TypeError):
    """Types that do not fit an operation."""

    en = ("{op} needs {expected}, but got {got}.", "{mend}")
    zh = ("{op}:需要 {expected},实际得到 {got}。", "{mend}")


class LabelTypeError(DTypeError):
    """Class labels that are not whole numbers."""

    en = (
        "{op}: class labels must be whole numbers (int64 or int32), but got {got} "
        "of shape {shape}.",
        "labels.long() if they are class numbers; for yes/no targets use "
        "binary_cross_entropy_with_logits, for quantities use mse_loss.",
    )
    zh = (
        "{op}:类别标签必须是整数(int64 或 int32),实际得到 {got},形状 {shape}。",
        "若它们是类别编号,用 labels.long();二分类目标用 binary_cross_entropy_with_logits,"
        "数值目标用 mse_loss。",
    )


class IndexRangeError(ChainruleError, IndexError):
    """An index or a class label outside its range."""

    en = (
        "{op}: index {got} at position {position} is outside 0..{last} (there are {size} {what}).",
        "labels and indices count from 0; check the data, or enlarge the {what} to {needed}.",
    )
    zh = (
        "{op}:位置 {position} 的索引 {got} 超出 0..{last}(共有 {size} 个{what_zh})。",
        "标签和索引从 0 开始计数;请检查数据,或把{what_zh}增加到 {needed} 个。",
    )


class TracedValueError(ChainruleError, RuntimeError):
    """The value of a traced tensor was asked for while (or after) a step is compiled."""

    en = (
        "{asked} needs the value of a tensor, but inside a compiled step there are no values "
        "yet{detail}.",
        "return the tensor and look at it outside, choose with cr.where(condition, a, b), "
        "or call the function without cr.compile.",
    )
    zh = (
        "{asked} 需要张量的数值,但在编译的步骤里还没有数值{detail}。",
        "把张量返回、在外面查看,用 cr.where(condition, a, b) 选择,或不用 cr.compile 调用该函数。",
    )


class LeakedTensorError(TracedValueError):
    """A tensor made inside a compiled step, used after it."""

    en = (
        "this tensor was made inside a compiled step ({op}{where}) and kept after it; "
        "it never gets a value.",
        "return it from the step: loss, extra = step(x, y); "
        "or call the function without cr.compile.",
    )
    zh = (
        "这个张量是在编译的步骤里产生的({op}{where}),步骤结束后仍被保留;它不会有数值。",
        "从步骤里返回它:loss, extra = step(x, y);或不用 cr.compile 调用该函数。",
    )


class BackwardError(ChainruleError, RuntimeError):
    """A loss was differentiated twice."""

    en = (
        "this loss was already back-propagated; a second backward() would add the same "
        "gradients again.",
        "compute the loss anew in every step, and call backward() once on it; if doubling is what "
        "you want, the first call is loss.backward(retain_graph=True).",
    )
    zh = (
        "这个损失已经反向传播过;再次 backward() 会把同样的梯度再加一遍。",
        "每一步重新计算损失,并只调用一次 backward();若确实要加倍,"
        "第一次调用写成 loss.backward(retain_graph=True)。",
    )


class NotScalarError(ChainruleError, RuntimeError):
    """backward() or item() of a tensor with more than one element."""

    en = ("{op} needs a tensor with one element, but got shape {shape}.", "{mend}")
    zh = ("{op} 需要只有一个元素的张量,实际形状为 {shape}。", "{mend}")


class NoGradientError(ChainruleError, RuntimeError):
    """There is nothing to learn from: no gradient reached a parameter."""

    en = ("{op}: {reason}.", "{mend}")
    zh = ("{op}:{reason_zh}。", "{mend_zh}")


class InPlaceError(ChainruleError, TypeError):
    """Assignment into a tensor, which is immutable."""

    en = (
        "tensors are immutable: x[i] = v is not possible.",
        "x = x.at[i].set(v)  (also .add, .multiply)",
    )
    zh = ("张量不可变:不能 x[i] = v。", "x = x.at[i].set(v)(还有 .add、.multiply)")


class StateDictError(ChainruleError, KeyError):
    """Keys or shapes of a state dict that do not fit the module."""

    en = ("state dict does not fit {module}:\n{lines}", "{mend}")
    zh = ("state dict 与 {module} 不符:\n{lines}", "{mend}")


class OptionError(ChainruleError, ValueError):
    """An option or argument with a value that is not allowed."""

    en = ("{name} must be {expected}, but got {got}.", "{mend}")
    zh = ("{name} 必须是 {expected},实际得到 {got}。", "{mend}")


class MissingFeatureError(ChainruleError, AttributeError):
    """A name that PyTorch has and this library has not (or has elsewhere)."""

    en = ("{name} is not part of chainrule.", "{mend}")
    zh = ("chainrule 没有 {name}。", "{mend_zh}")


class MissingPackageError(ChainruleError, ImportError):
    """A package that only some of the library needs, and that is not installed."""

    en = ("{name} needs {package}, which is not installed.", 'pip install "chainrule[{extra}]"')
    zh = ("{name} 需要 {package},但尚未安装。", 'pip install "chainrule[{extra}]"')


class MissingModuleError(ChainruleError, ImportError):
    """An import of what PyTorch has and this library has not (or has elsewhere)."""

    en = MissingFeatureError.en
    zh = MissingFeatureError.zh


class DeviceError(ChainruleError, RuntimeError):
    """A device this build can't run on."""

    en = ("device {got} is not available here.", 'use "cpu"; GPUs run through PyTorch ({mend}).')
    zh = ("此处没有设备 {got}。", '请用 "cpu";GPU 通过 PyTorch 运行({mend})。')


class ExecutorError(ChainruleError, NotImplementedError):
    """An op that an executor has no row for."""

    en = (
        "the {executor} executor can't run {op}: it has no row for it, and {op} has no body.",
        'cr.set_executor("interpreter"), or add a row for {op} to {table}.',
    )
    zh = (
        "{executor} 执行器不能运行 {op}:表中没有它的一行,{op} 也没有函数体。",
        '用 cr.set_executor("interpreter"),或在 {table} 中为 {op} 添加一行。',
    )


class DataError(ChainruleError, ValueError):
    """A data file that can't be read; names the first bad record."""

    en = ("{path}: {problem}.", "{mend}")
    zh = ("{path}:{problem_zh}。", "{mend_zh}")


class CheckpointError(ChainruleError, ValueError):
    """A checkpoint that is damaged or belongs to another model."""

    en = ("{path}: {problem}.", "{mend}")
    zh = ("{path}:{problem_zh}。", "{mend_zh}")


class InterruptedRun(ChainruleError, RuntimeError):
    """A training run that was stopped and can be resumed."""

    en = ("stopped after step {step}; the run is kept in {folder}.", "resume with: {command}")
    zh = ("在第 {step} 步后停止;运行保存在 {folder}。", "继续运行:{command}")


class GradcheckError(ChainruleError, AssertionError):
    """A gradient that differs from the central difference; names the worst entry."""

    en = (
        "gradient of {name}{index} is {got:.10g}, but the central difference gives "
        "{expected:.10g} (relative error {error:.2g}, tolerance {tolerance:.2g}).",
        "compare the derivative rule with the formula; near a kink move the point away from it.",
    )
    zh = (
        "{name}{index} 的梯度是 {got:.10g},数值差分给出 {expected:.10g}"
        "(相对误差 {error:.2g},容差 {tolerance:.2g})。",
        "对照公式检查求导规则;若在不可导点附近,请换一个点。",
    )


class VerifierError(ChainruleError, RuntimeError):
    """A graph that breaks a rule of graphs: a defect of a pass, not of the user's program."""

    en = ("the graph is not valid after {stage}: {problem}.", "please report this.")
    zh = ("经过 {stage} 之后图不合法:{problem}。", "请报告此问题。")


class ManyPlansWarning(ChainruleWarning):
    """A compiled function that is traced again and again; names what varies."""

    en = (
        "{name} was compiled {count} times, because {cause}; each time costs a new trace.",
        "{mend}",
    )
    zh = ("{name} 已被编译 {count} 次,因为{cause_zh};每次都要重新追踪。", "{mend_zh}")


class NoKernelWarning(ChainruleWarning):
    """A graph that the native engine leaves to the interpreter."""

    en = (
        "the native executor has no kernel for {op}: graphs with it run on the interpreter, "
        "slower.",
        "",
    )
    zh = ("native 执行器还没有 {op} 的内核:含有它的图改由解释器运行,速度较慢。", "")


class NoNativeWarning(ChainruleWarning):
    """Native code can't be made for this machine; said once, and the interpreter takes over."""

    en = (
        "no native code can be made here ({reason}): graphs run on the interpreter, slower.",
        'cr.set_executor("interpreter"), or CHAINRULE_EXECUTOR=interpreter, chooses it.',
    )
    zh = (
        "这里无法生成本机代码({reason}):图改由解释器运行,速度较慢。",
        'cr.set_executor("interpreter") 或 CHAINRULE_EXECUTOR=interpreter 可以明确选择解释器。',
    )


class SoftmaxTwiceWarning(ChainruleWarning):
    """Softmax before cross-entropy, which applies softmax itself."""

    en = (
        "cross_entropy applies softmax itself, but its input is already a {op}: "
        "the model learns slowly.",
        "give cross_entropy the raw scores (logits): remove the {op} at the end of the model.",
    )
    zh = (
        "cross_entropy 自己会做 softmax,但它的输入已经是 {op} 的结果:模型会学得很慢。",
        "把原始得分(logits)交给 cross_entropy:去掉模型末尾的 {op}。",
    )
