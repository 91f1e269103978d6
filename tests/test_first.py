"""The first tests: a second each through every floor. If these fail, look at nothing else."""

from __future__ import annotations

import numpy as np

import chainrule as cr
from chainrule import data, nn, optim


def test_a_gradient() -> None:
    x = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


def test_a_second_derivative() -> None:
    slope = cr.grad(cr.grad(lambda x: x**3))
    assert slope(cr.tensor(2.0)).item() == 12.0


def test_one_neuron_of_the_course_page() -> None:
    w = cr.tensor([[0.4, -0.1]], dtype=cr.float64, requires_grad=True)
    x = cr.tensor([[2.0, 3.0]], dtype=cr.float64)
    loss = nn.functional.binary_cross_entropy_with_logits(
        nn.functional.linear(x, w), cr.tensor([[1.0]], dtype=cr.float64)
    )
    loss.backward()
    assert w.grad is not None
    error = 1 / (1 + np.exp(-0.5)) - 1  # a - y
    np.testing.assert_allclose(loss.item(), np.log(1 + np.exp(-0.5)), rtol=1e-12)
    np.testing.assert_allclose(w.grad.numpy(), [[2 * error, 3 * error]], rtol=1e-12)


def test_a_network_learns() -> None:
    train, held_out = data.digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    batches = data.Batches([train.scaled(), train.labels], 64)

    @cr.compile
    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    while batches.epoch < 5:
        for images, labels in batches:
            step(cr.tensor(images), cr.tensor(labels))
    predicted = model(cr.tensor(held_out.scaled())).numpy().argmax(1)
    assert (predicted == held_out.labels).mean() > 0.9
