"""What is drawn by probability: ``multinomial``, ``distributions``; and averaged models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as oracle

import chainrule.like_torch as torch
from chainrule import errors
from chainrule.like_torch import nn
from chainrule.like_torch.optim import swa_utils
from chainrule.like_torch.utils.data import WeightedRandomSampler

P = np.array([[0.1, 0.2, 0.0, 0.7], [0.25, 0.25, 0.25, 0.25]])


def shares(drawn: Any, columns: int = 4) -> np.ndarray[Any, Any]:
    return np.bincount(drawn.numpy().ravel(), minlength=columns) / drawn.numel()


def test_multinomial_has_its_probabilities() -> None:
    drawn = torch.multinomial(torch.tensor(P * 3), 20000, replacement=True)
    assert (drawn.shape, drawn.dtype) == ((2, 20000), torch.int64)
    for row, probs in zip(drawn, P, strict=True):
        np.testing.assert_allclose(shares(row), probs, atol=0.02)  # 6 standard errors
        assert shares(row)[probs == 0].sum() == 0


def test_multinomial_without_replacement() -> None:
    drawn = torch.multinomial(torch.tensor(P[0]).expand(6000, 4), 3)
    assert all(sorted(row) == [0, 1, 3] for row in drawn.tolist())
    np.testing.assert_allclose(shares(drawn[:, 0]), P[0], atol=0.035)
    # the second, given that the first was column 3
    second = drawn[drawn[:, 0] == 3][:, 1]
    np.testing.assert_allclose(shares(second), [1 / 3, 2 / 3, 0, 0], atol=0.05)


def test_multinomial_is_a_function_of_its_generator() -> None:
    def drawn(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        weights = torch.tensor(P[1])
        return torch.multinomial(weights, 50, replacement=True, generator=generator).tolist()

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0]])
def test_multinomial_refuses(weights: list[float]) -> None:
    with pytest.raises(errors.OptionError, match="weights of at least 0"):
        torch.multinomial(torch.tensor(weights), 1)


def test_more_samples_than_columns() -> None:
    with pytest.raises(errors.OptionError, match="without replacement"):
        torch.multinomial(torch.tensor(P[0]), 4)


def test_bernoulli() -> None:
    drawn = torch.bernoulli(torch.full((20000,), 0.3))
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert abs(drawn.mean().item() - 0.3) < 0.02


def test_weighted_sampler() -> None:
    sampler = WeightedRandomSampler([1.0, 3.0, 0.0], num_samples=9000)
    order = list(sampler)
    assert len(sampler) == len(order) == 9000
    np.testing.assert_allclose(np.bincount(order) / 9000, [0.25, 0.75], atol=0.03)


# ------------------------------------------------------------------------------ distributions

LOGITS = np.array([[0.3, -1.0, 2.0], [0.0, 0.5, -0.5]])

DISTRIBUTIONS = {
    "Categorical probs": lambda d, x: d.Categorical(probs=x.exp()),
    "Categorical logits": lambda d, x: d.Categorical(logits=x),
    "Bernoulli probs": lambda d, x: d.Bernoulli(x.sigmoid()),
    "Bernoulli logits": lambda d, x: d.Bernoulli(logits=x),
    "Normal": lambda d, x: d.Normal(x, (x * 0.5).exp()),
    "Normal of one scale": lambda d, x: d.Normal(x, 2.0),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_log_prob_and_entropy_as_pytorch(name: str) -> None:
    found = []
    for t in (torch, oracle):
        x = t.tensor(LOGITS, requires_grad=True)
        made = DISTRIBUTIONS[name](t.distributions, x)
        if "Categorical" in name:
            value = t.tensor([2, 0])
        else:
            value = t.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=t.float64)
        log_prob, entropy = made.log_prob(value), made.entropy()
        (log_prob.sum() * 1.5 + (entropy * entropy).sum()).backward()
        found.append([z.detach().numpy() for z in (log_prob, entropy + 0 * log_prob, x.grad)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_samples_have_the_shapes_and_shares() -> None:
    logits = torch.tensor(LOGITS, requires_grad=True)
    policy = torch.distributions.Categorical(logits=logits)
    drawn = policy.sample((9000,))
    assert drawn.shape == (9000, 2)
    assert not drawn.requires_grad
    assert policy.sample().shape == (2,)
    np.testing.assert_allclose(shares(drawn[:, 0], 3), policy.probs[0].tolist(), atol=0.03)
    coin = torch.distributions.Bernoulli(torch.tensor([0.2, 0.9]))
    np.testing.assert_allclose(coin.sample((9000,)).mean(0).tolist(), [0.2, 0.9], atol=0.03)
    bell = torch.distributions.Normal(torch.tensor([1.0, 5.0]), 2.0)
    drawn = bell.sample((9000,))
    np.testing.assert_allclose(drawn.mean(0).tolist(), [1, 5], atol=0.13)
    np.testing.assert_allclose(drawn.std(0).tolist(), [2, 2], atol=0.1)


def test_rsample_has_a_gradient() -> None:
    loc = torch.tensor([0.0, 1.0], requires_grad=True)
    torch.distributions.Normal(loc, 1.0).rsample((3,)).sum().backward()
    assert loc.grad is not None
    assert loc.grad.tolist() == [3.0, 3.0]


def test_kl_divergence_as_pytorch() -> None:
    found = []
    for t in (torch, oracle):
        x, d = t.tensor(LOGITS), t.distributions
        normals = d.kl_divergence(d.Normal(x, 2.0), d.Normal(0.5, (x * 0.1).exp()))
        classes = d.kl_divergence(d.Categorical(logits=x), d.Categorical(logits=-x))
        found.append((normals.numpy(), classes.numpy()))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_distributions_say_what_is_wrong() -> None:
    d = torch.distributions
    with pytest.raises(errors.OptionError, match="one of the two"):
        d.Categorical()
    with pytest.raises(errors.OptionError, match="two Normal or two Categorical"):
        d.kl_divergence(d.Normal(0.0, 1.0), d.Bernoulli(0.5))
    with pytest.raises(errors.MissingFeatureError, match=r"torch\.distributions\.Gumbel"):
        _ = d.Gumbel


# ------------------------------------------------------------------------------ averaged models


@pytest.mark.parametrize("average", ["equal", "ema"])
def test_averaged_model_as_pytorch(average: str) -> None:
    found = []
    for t, swa in ((torch, swa_utils), (oracle, oracle.optim.swa_utils)):
        net = t.nn.Sequential(t.nn.Linear(2, 2), t.nn.BatchNorm1d(2)).double()
        options = {"avg_fn": swa.get_ema_avg_fn(0.8)} if average == "ema" else {}
        averaged = swa.AveragedModel(net, **options)
        rng = np.random.default_rng(0)
        batches = [(t.tensor(rng.normal(size=(5, 2))),) for _ in range(3)]
        for _ in range(4):
            for p in net.parameters():
                p.data.copy_(t.tensor(rng.normal(size=tuple(p.shape))))
            averaged.update_parameters(net)
        swa.update_bn(batches, averaged)
        averaged.eval()
        state = averaged.state_dict()
        found.append(({k: v.numpy() for k, v in state.items()}, averaged(batches[0][0])))
    (ours, y), (theirs, expected) = found
    assert set(ours) == set(theirs)
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-9, err_msg=key)
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"anneal_strategy": "linear"}, {"anneal_epochs": 0}])
def test_swa_rate_as_pytorch(options: dict[str, Any]) -> None:
    found = []
    for t, swa in ((torch, swa_utils), (oracle, oracle.optim.swa_utils)):
        optimizer = t.optim.SGD([t.ones(1, requires_grad=True)], lr=0.5)
        scheduler = swa.SWALR(optimizer, swa_lr=0.05, **{"anneal_epochs": 4, **options})
        rates = []
        for _ in range(7):
            optimizer.param_groups[0]["params"][0].grad = t.ones(1)
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        found.append(rates)
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_swa_options() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(errors.OptionError, match="anneal_strategy"):
        swa_utils.SWALR(optimizer, 0.05, anneal_strategy="fast")
    with pytest.raises(errors.OptionError, match="avg_fn=get_ema_avg_fn"):
        swa_utils.AveragedModel(nn.Linear(1, 1), multi_avg_fn=print)
