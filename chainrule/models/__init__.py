"""Networks ready to train."""

from __future__ import annotations

from chainrule.models.bert import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
)
from chainrule.models.char_rnn import CharRNN
from chainrule.models.efficientnet import EfficientNet
from chainrule.models.forecaster import Forecaster, persistence, skill, windows
from chainrule.models.gpt import GPT2Config, GPT2LMHeadModel, GPT2Model
from chainrule.models.lenet import LeNet
from chainrule.models.mlp import mlp
from chainrule.models.perceptron import Perceptron
from chainrule.models.resnet import CifarResNet, ResNet, resnet18, resnet20, resnet34, resnet50
from chainrule.models.summary import LayerSummary, Summary, summary
from chainrule.models.transformer import Translator
from chainrule.models.vgg import VGG, vgg11, vgg13, vgg16, vgg19
from chainrule.models.yolo import Yolo

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertModel",
    "CharRNN",
    "CifarResNet",
    "EfficientNet",
    "Forecaster",
    "GPT2Config",
    "GPT2LMHeadModel",
    "GPT2Model",
    "LayerSummary",
    "LeNet",
    "Perceptron",
    "ResNet",
    "Summary",
    "Translator",
    "VGG",
    "Yolo",
    "mlp",
    "persistence",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "skill",
    "summary",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "windows",
]
