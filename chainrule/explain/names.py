"""Symbols for the quantities of a network: z, a, W, b, x, y ... (DESIGN: one notation).

Superscript [l] is the layer, <t> the time step, (n) the sample of a batch, subscripts the neuron
and the input; z comes before and a after the activation. Plain text writes ``w[1]_12`` for the
weight of layer 1 from input 2 to neuron 1, and ``w2`` where there is one layer with one neuron.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chainrule.core.graph import Shape

_GREEK = {
    "gamma": r"\gamma",
    "mu": r"\mu",
    "var": r"\sigma^2",
    "y_hat": r"\hat{y}",
    "eta": r"\eta",
    "beta": r"\beta",
    "beta1": r"\beta_1",
    "beta2": r"\beta_2",
    "eps": r"\epsilon",
}


@dataclass(frozen=True)
class Name:
    """The symbol of a tensor, from which its entries' symbols follow.

    Attributes:
        base: the letter (entries of ``W`` print as ``w``).
        layer: the layer it belongs to; 0 when there is no need to say.
        batch: whether the first axis counts samples.
        time: the step of a recurrence, from 1; 0 outside.
        prefix: ``"dL/d"`` for a cotangent, ``"da/d"`` for a local derivative.
        top: in LaTeX, what the derivative is of.
    """

    base: str
    layer: int = 0
    batch: bool = False
    time: int = 0
    prefix: str = ""
    top: str = "L"

    def gradient(self) -> Name:
        """The name of dL/d(this)."""
        return replace(self, prefix="dL/d")

    @property
    def plain(self) -> str:
        """The whole tensor, for terminals."""
        return f"{self.prefix}{self.base}{self._layer}"

    @property
    def latex(self) -> str:
        """The whole tensor, in LaTeX."""
        return self._derivative(f"{_greek(self.base)}{self._latex_layer()}")

    def entry(self, index: Shape, shape: Shape) -> str:
        """One entry, for terminals."""
        sample, subscripts = self._split(index, shape)
        letter = _entry_letter(self.base)
        text = f"{letter}{self._layer}{sample}"
        if subscripts:
            short = len(letter) == 1 and not self._layer and not sample
            text += ("" if short else "_") + _joined(subscripts)
        return f"{self.prefix}{text}"

    def entry_latex(self, index: Shape, shape: Shape) -> str:
        """One entry, in LaTeX."""
        sample, subscripts = self._split(index, shape)
        letter = _greek(_entry_letter(self.base))
        text = f"{letter}{self._latex_layer(sample)}"
        if subscripts:
            text += f"_{{{_joined(subscripts)}}}"
        return self._derivative(text)

    @property
    def _layer(self) -> str:
        time = f"<{self.time}>" if self.time else ""
        return (f"[{self.layer}]" if self.layer else "") + time

    def _latex_layer(self, sample: str = "") -> str:
        inside = f"{self._layer}{sample}".replace("<", r"\langle ").replace(">", r" \rangle")
        return f"^{{{inside}}}" if inside else ""

    def _derivative(self, text: str) -> str:
        return rf"\frac{{\partial {self.top}}}{{\partial {text}}}" if self.prefix else text

    def _split(self, index: Shape, shape: Shape) -> tuple[str, tuple[int, ...]]:
        """The sample mark and the subscripts, counted from 1; axes of length 1 are not said."""
        sample = ""
        if self.batch and shape:
            sample = f"({index[0] + 1})" if shape[0] > 1 else ""
            index, shape = index[1:], shape[1:]
        pairs = zip(index, shape, strict=True)
        return sample, tuple(i + 1 for i, length in pairs if length > 1)


def _joined(subscripts: tuple[int, ...]) -> str:
    short = all(subscript < 10 for subscript in subscripts)
    return ("" if short else ",").join(map(str, subscripts))


def _entry_letter(base: str) -> str:
    """Matrices are capital, their entries are not: w of W, m_w of m_W, e of E."""
    return base.replace("W", "w").replace("E", "e")


def _greek(letter: str) -> str:
    """The letter in LaTeX, braces around whatever is more than a letter."""
    if letter in _GREEK:
        return _GREEK[letter]
    head, _, tail = letter.partition("_")
    return f"{{{head}_{{{tail}}}}}" if tail else letter if len(letter) == 1 else f"{{{letter}}}"
