"""Fit a third-order polynomial to sin(x): autograd, and updates written by hand. float64."""

import math

import torch

dtype = torch.float64
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# Create input and output data
x = torch.linspace(-math.pi, math.pi, 2000, device=device, dtype=dtype)
y = torch.sin(x)

# Weights: y = a + b x + c x^2 + d x^3
a = torch.randn((), device=device, dtype=dtype, requires_grad=True)
b = torch.randn((), device=device, dtype=dtype, requires_grad=True)
c = torch.randn((), device=device, dtype=dtype, requires_grad=True)
d = torch.randn((), device=device, dtype=dtype, requires_grad=True)

learning_rate = 1e-6
losses = []
for t in range(200):
    # Forward pass
    y_pred = a + b * x + c * x**2 + d * x**3

    # Compute and print loss
    loss = (y_pred - y).pow(2).sum()
    losses.append(loss.item())
    if t % 100 == 99:
        print(t, loss.item())

    # Backward pass: a.grad, b.grad, c.grad, d.grad
    loss.backward()

    # Update weights using gradient descent
    with torch.no_grad():
        a -= learning_rate * a.grad
        b -= learning_rate * b.grad
        c -= learning_rate * c.grad
        d -= learning_rate * d.grad

        # Manually zero the gradients
        a.grad.zero_()
        b.grad.zero_()
        c.grad = None
        d.grad = None

print(f"Result: y = {a.item()} + {b.item()} x + {c.item()} x^2 + {d.item()} x^3")

# A second way: one weight vector, written through .data
w = torch.tensor([1.0, -1.0, 0.5], dtype=dtype, requires_grad=True)
features = torch.stack([x, x**2, torch.ones_like(x)], dim=1)
for _ in range(100):
    loss = torch.mean((features @ w - y) ** 2)
    losses.append(loss.item())
    loss.backward()
    w.data -= 0.01 * w.grad.data
    w.grad.zero_()
assert w.requires_grad
assert not y.requires_grad
print("w =", w.detach().numpy().round(4).tolist(), f"loss = {loss:.4f}")
