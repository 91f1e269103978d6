"""Networks ready to train."""

from __future__ import annotations

from chainrule.models.bert import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
)
from chainrule.models.char_rnn import CharRNN
from chainrule.models.forecaster import Forecaster, persistence, skill, windows
from chainrule.models.gpt import GPT2Config, GPT2LMHeadModel, GPT2Model
from chainrule.models.mlp import mlp
from chainrule.models.perceptron import Perceptron
from chainrule.models.summary import LayerSummary, Summary, summary
from chainrule.models.transformer import Translator

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertModel",
    "CharRNN",
    "Forecaster",
    "GPT2Config",
    "GPT2LMHeadModel",
    "GPT2Model",
    "LayerSummary",
    "Perceptron",
    "Summary",
    "Translator",
    "mlp",
    "persistence",
    "skill",
    "summary",
    "windows",
]
