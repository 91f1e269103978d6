"""GPT-2 against Hugging Face's; generation, its cache, and its properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformer_twins import hold, same_weights

import chainrule as cr
from chainrule.errors import IndexRangeError, OptionError, ShapeError, StateDictError
from chainrule.models import GPT2Config, GPT2LMHeadModel, GPT2Model
from chainrule.models.language import next_token

RNG = np.random.default_rng(0)
TIGHT = {"rtol": 1e-8, "atol": 1e-12}
SMALL = {"vocab_size": 11, "n_positions": 9, "n_embd": 8, "n_layer": 2, "n_head": 2}
DRY = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
TOKENS = RNG.integers(0, 11, (2, 5))
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"n_layer": 1, "n_head": 1},
    {"n_inner": 5, "activation_function": "relu"},
    {"n_head": 4, "layer_norm_epsilon": 1e-2},
    {"activation_function": "gelu", "n_layer": 3},
]


def theirs(kind: Any, **options: Any) -> Any:
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return kind(transformers.GPT2Config(**SMALL, **DRY, **ends) if not options else
                transformers.GPT2Config(**{**SMALL, **DRY, **ends, **options}))  # fmt: skip


@pytest.fixture
def model() -> GPT2LMHeadModel:
    made = GPT2LMHeadModel(GPT2Config(**SMALL)).double()
    for parameter in made.parameters():
        parameter.copy_(RNG.normal(size=parameter.shape))
    return made


@pytest.mark.parametrize("options", CONFIGURATIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_as_hugging_face(options: dict[str, Any], masked: bool) -> None:
    def call(module: Any, tokens: Any) -> Any:
        if isinstance(module, torch.nn.Module):
            mask = torch.tensor(MASK) if masked else None
            return module(tokens, attention_mask=mask, use_cache=False).logits
        return module(tokens, cr.tensor(MASK) if masked else None)

    ours = GPT2LMHeadModel(GPT2Config(**{**SMALL, **DRY, **options}))
    hold(ours, theirs(transformers.GPT2LMHeadModel, **options), [TOKENS], call, TIGHT, steps=2)
    assert ours.lm_head.weight is ours.transformer.wte.weight


def test_without_a_head() -> None:
    def call(module: Any, tokens: Any) -> Any:
        made = module(tokens)
        return made if isinstance(made, cr.Tensor) else made.last_hidden_state

    ours = GPT2Model(GPT2Config(**SMALL, **DRY))
    hold(ours, theirs(transformers.GPT2Model), [TOKENS], call, TIGHT, steps=1)


def test_the_state_goes_back() -> None:
    ours, reference = GPT2LMHeadModel(GPT2Config(**SMALL)), theirs(transformers.GPT2LMHeadModel)
    state = {key: torch.tensor(value.numpy()) for key, value in ours.state_dict().items()}
    assert not any(reference.load_state_dict(state))
    reference.eval()
    np.testing.assert_allclose(
        ours.eval()(cr.tensor(TOKENS)).numpy(),
        reference(torch.tensor(TOKENS)).logits.detach().numpy(),
        rtol=1e-4,
        atol=1e-6,
    )


def test_old_checkpoints_hold_masks() -> None:
    ours = GPT2LMHeadModel(GPT2Config(**SMALL))
    state = {key: value.numpy() for key, value in ours.state_dict().items()}
    state["transformer.h.0.attn.bias"] = np.tri(9)[None, None]
    state["transformer.h.0.attn.masked_bias"] = np.array(-1e4)
    assert ours.load_state_dict(state) == ([], [])
    with pytest.raises(StateDictError, match=r"unknown key transformer.h.0.attn.bia "):
        ours.load_state_dict({**state, "transformer.h.0.attn.bia": np.zeros(1)})


def test_initial_values() -> None:
    model = GPT2Model(GPT2Config(vocab_size=100, n_positions=50, n_embd=64, n_layer=2, n_head=2))
    assert model.wte.weight.numpy().std() == pytest.approx(0.02, rel=0.1)
    assert model.h[0].mlp.c_proj.weight.numpy().std() == pytest.approx(0.01, rel=0.1)
    assert not model.h[0].attn.c_attn.bias.numpy().any()
    assert (model.ln_f.weight.numpy() == 1).all()


# ------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize("compiled", [False, True])
def test_decoding_with_caches(model: GPT2LMHeadModel, compiled: bool) -> None:
    model.eval()
    full = model(cr.tensor(TOKENS)).numpy()
    caches = model.transformer.new_caches(2, 7)

    def step(tokens: Any) -> Any:
        return model(tokens, caches=caches)

    run = cr.compile(step) if compiled else step
    for start, stop in [(0, 2), (2, 3), (3, 4), (4, 5)]:
        found = run(cr.tensor(TOKENS[:, start:stop])).numpy()
        np.testing.assert_allclose(found, full[:, start:stop], rtol=1e-9, atol=1e-11)


def test_greedy_generation(model: GPT2LMHeadModel) -> None:
    """As the model without a cache goes on, word by word; as Hugging Face goes on."""
    reference = theirs(transformers.GPT2LMHeadModel)
    same_weights(model, reference)
    found = model.generate(cr.tensor(TOKENS), 4, temperature=0)
    tokens = TOKENS
    model.eval()
    for _ in range(4):
        best = model(cr.tensor(tokens)).numpy()[:, -1].argmax(-1)
        tokens = np.concatenate([tokens, best[:, None]], 1)
    np.testing.assert_array_equal(found.numpy(), tokens)
    with torch.no_grad():
        expected = reference.eval()(torch.tensor(tokens[:, :-1])).logits.argmax(-1)[:, -4:]
    np.testing.assert_array_equal(found.numpy()[:, -4:], expected.numpy())


def test_generation_leaves_the_model_as_it_was(model: GPT2LMHeadModel) -> None:
    model.transformer.drop.eval()
    cr.manual_seed(3)
    first = model.generate(cr.tensor(TOKENS), 4, top_k=5)
    assert model.training
    assert not model.transformer.drop.training
    cr.manual_seed(3)
    np.testing.assert_array_equal(model.generate(cr.tensor(TOKENS), 4, top_k=5).numpy(), first)
    assert first.shape == (2, 9)


def test_texts_that_end(model: GPT2LMHeadModel) -> None:
    free = model.generate(cr.tensor(TOKENS[:1]), 4, temperature=0).numpy()[0, 5:]
    found = model.generate(cr.tensor(TOKENS[:1]), 4, temperature=0, eos_token_id=int(free[1]))
    stop = list(free).index(free[1]) + 1
    assert found.numpy()[0, 5:].tolist() == free[:stop].tolist()
    both = model.generate(cr.tensor(TOKENS), 4, temperature=0, eos_token_id=int(free[1])).numpy()
    assert (both[0, 5 + stop :] == free[1]).all()


def test_sampling_follows_the_probabilities() -> None:
    logits = np.array([0.0, 1.0, 2.0, 3.0])
    many = cr.tensor(np.tile(logits, (20000, 1)))

    def shares(**options: Any) -> np.ndarray:
        return np.bincount(next_token(many, **options).numpy()[:, 0], minlength=4) / 20000

    def softmax(z: np.ndarray) -> np.ndarray:
        return np.exp(z) / np.exp(z).sum()

    np.testing.assert_allclose(shares(), softmax(logits), atol=0.015)
    np.testing.assert_allclose(shares(temperature=0.5), softmax(2 * logits), atol=0.015)
    assert shares(temperature=0.0).tolist() == [0, 0, 0, 1]
    top = shares(top_k=2)
    assert top[:2].tolist() == [0, 0]
    np.testing.assert_allclose(top[2:], softmax(logits[2:]), atol=0.015)


def test_mistakes(model: GPT2LMHeadModel) -> None:
    with pytest.raises(ShapeError, match="at most 9 tokens, but got 10"):
        model(cr.ones(1, 10, dtype=cr.int64))
    with pytest.raises(IndexRangeError):
        model(cr.tensor([[11]])).numpy()
    with pytest.raises(OptionError, match="a multiple of n_head=3"):
        GPT2Model(GPT2Config(n_embd=8, n_head=3))
    with pytest.raises(OptionError, match="did you mean 'gelu_new'"):
        GPT2Model(GPT2Config(**{**SMALL, "activation_function": "gelu_neww"}))
    with pytest.raises(OptionError, match="temperature must be 0 or more"):
        next_token(cr.ones(1, 2), -1.0)
    with pytest.raises(OptionError, match="top_k must be at least 1"):
        next_token(cr.ones(1, 2), top_k=0)


def test_configuration_of_a_checkpoint() -> None:
    """Hugging Face's config.json; what has no use here is left."""
    facts = transformers.GPT2Config(**SMALL, bos_token_id=0, eos_token_id=0).to_dict()
    assert GPT2Config.from_dict(facts) == GPT2Config(**SMALL)
