"""Networks ready to train."""

from __future__ import annotations

from chainrule.models.mlp import mlp
from chainrule.models.perceptron import Perceptron
from chainrule.models.summary import LayerSummary, Summary, summary

__all__ = ["LayerSummary", "Perceptron", "Summary", "mlp", "summary"]
