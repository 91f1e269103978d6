"""The words of explanations, in English and Chinese: one table.

``aliases`` are other spellings a reader may search for; they are never printed.
"""

from __future__ import annotations

from typing import NamedTuple

from chainrule.errors import OptionError, closest


class Word(NamedTuple):
    """A term in both languages."""

    en: str
    zh: str
    aliases: tuple[str, ...] = ()


WORDS: dict[str, Word] = {
    # phases
    "given": Word("Given", "已知"),
    "forward": Word("Forward propagation", "前向传播", ("正向传播",)),
    "loss": Word("Loss", "损失函数", ("代价函数",)),
    "backward": Word("Back-propagation (chain rule)", "反向传播(链式法则)"),
    "update": Word("Gradient descent", "梯度下降"),
    "flip": Word("What would change the decision", "怎样会改变结果"),
    # the network
    "network": Word("Network", "神经网络"),
    "inputs": Word("inputs", "个输入"),
    "ops": Word("operations", "个运算"),
    "neuron": Word("neuron", "个神经元"),
    "neurons": Word("neurons", "个神经元"),
    "input_layer": Word("input layer", "输入层"),
    "hidden_layer": Word("hidden layer", "隐藏层"),
    "output_layer": Word("output layer", "输出层"),
    # rules
    "weighted_sum": Word("weighted sum", "加权和", ("加权求和",)),
    "activation": Word("activation", "激活值"),
    "prediction": Word("prediction", "预测值", ("模型的输出",)),
    "probabilities": Word("probabilities", "概率分布"),
    "chain_rule": Word("chain rule", "链式法则"),
    "chain_start": Word("start of the chain", "链的起点"),
    "local_derivative": Word("local derivative", "局部导数"),
    "gradient": Word("gradient", "梯度"),
    "error_term": Word("error term delta", "误差项 delta", ("输出层误差",)),
    "parameter_update": Word("parameter update", "参数更新"),
    "learning_rate": Word("learning rate", "学习率"),
    "central_difference": Word("central difference", "数值差分"),
    "check": Word("check", "验证"),
    "dropout": Word("dropout", "随机失活", ("随机丢弃神经元",)),
    "value": Word("value", "数值"),
    "optimizer_state": Word("optimizer state", "优化器状态"),
    # functions
    "sigmoid": Word("sigmoid", "Sigmoid 函数"),
    "relu": Word("ReLU", "ReLU 函数"),
    "tanh": Word("tanh", "Tanh 函数", ("双曲正切",)),
    "softmax": Word("softmax", "Softmax 函数"),
    "log_softmax": Word("log-softmax", "对数 Softmax"),
    "step": Word("step function", "阶跃函数"),
    "leaky_relu": Word("leaky ReLU", "Leaky ReLU 函数"),
    "elu": Word("ELU", "ELU 函数"),
    "gelu": Word("GELU", "GELU 函数"),
    "silu": Word("SiLU", "SiLU 函数"),
    "softplus": Word("softplus", "Softplus 函数"),
    "identity": Word("no activation", "无激活函数"),
    # losses
    "mse_loss": Word("mean squared error", "均方误差"),
    "l1_loss": Word("mean absolute error", "平均绝对误差"),
    "binary_cross_entropy": Word("binary cross-entropy", "二分类交叉熵损失"),
    "binary_cross_entropy_with_logits": Word(
        "binary cross-entropy of scores", "二分类交叉熵损失(含 Sigmoid)"
    ),
    "cross_entropy": Word("cross-entropy", "交叉熵损失"),
    # summary and training
    "layer": Word("layer", "层"),
    "role": Word("role", "角色"),
    "output_shape": Word("output shape", "输出形状"),
    "parameters": Word("parameters", "可学习参数"),
    "total": Word("total", "合计"),
    "batch": Word("batch", "批量"),
    "features": Word("features", "特征"),
    "channels": Word("channels", "通道"),
    "height": Word("height", "高"),
    "width": Word("width", "宽"),
    "run_folder": Word("run folder", "运行文件夹"),
    "more_digits": Word("more digits in {path}", "更多数字见 {path}"),
    # sentences
    "sum_of_row": Word("sum {total}", "总和 {total}"),
    "folded": Word(
        "{shape}, {count} entries; the first {shown} are shown",
        "{shape},共 {count} 个元素;只显示前 {shown} 个",
    ),
    "paths": Word("sum over {count} uses", "{count} 处使用之和"),
    "shortcut": Word("= {formula}: the factors cancel", "= {formula}:因子相消"),
    "flips_at": Word(
        "z = 0 when {name} = {at} (now {now})", "当 {name} = {at} 时 z = 0(现在为 {now})"
    ),
    "step_number": Word("step", "步"),
    "through_time": Word(
        "Back through time (vanishing or exploding gradient)", "沿时间反向(梯度消失或梯度爆炸)"
    ),
    "differs": Word(
        "the difference differs: at a kink there are two slopes",
        "数值差分不同:此处不可导,有两个斜率",
    ),
    # hazards
    "saturated": Word(
        "saturated: |z| is large, so the gradient nearly vanishes", "饱和:|z| 很大,梯度几乎消失"
    ),
    "dead_unit": Word("z <= 0: this unit passes no gradient", "z <= 0:此神经元不传递梯度"),
    "step_has_no_gradient": Word(
        "the step function's derivative is 0: no back-propagation through it",
        "阶跃函数的导数为 0:无法反向传播",
    ),
    "log_of_zero": Word("the logarithm of 0 was cut off", "0 的对数被截断"),
    "zero_divisor": Word("division by 0", "除以 0"),
    "sqrt_of_zero": Word("the root of 0 has no derivative", "0 的平方根不可导"),
    "exp_overflow": Word("exp overflows", "exp 溢出"),
}

LANGUAGES = ("en", "zh")
# Losses that have a word of their own.
LOSSES = frozenset(
    {
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "cross_entropy",
        "l1_loss",
        "mse_loss",
    }
)


def word(key: str, lang: str, **facts: object) -> str:
    """The word of a key in a language, facts filled in; the key itself where there is none."""
    found = WORDS.get(key)
    if found is None:
        return key
    text = found.zh if lang == "zh" else found.en
    return text.format(**facts) if facts else text


def check_language(lang: str) -> str:
    """The language, if it is one of those the table has."""
    if lang not in LANGUAGES:
        near = closest(lang, LANGUAGES)
        raise OptionError(
            name="lang",
            expected='"en" or "zh"',
            got=repr(lang),
            mend=f"did you mean {near!r}?" if near else "",
        )
    return lang
