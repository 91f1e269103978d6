"""AdamW with a step schedule, then SGD with a cosine schedule; float64."""

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

torch.set_default_dtype(torch.float64)

x = torch.linspace(-1, 1, 50).view(-1, 1)
y = x.pow(3) - 0.5 * x + 0.1 * torch.randn(50, 1)

model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
loss_fn = nn.MSELoss()
losses = []
rates = []

# Phase 1: AdamW; the rate falls by ten every 20 epochs
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
scheduler = StepLR(optimizer, step_size=20, gamma=0.1)
for epoch in range(60):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
    rates.append(scheduler.get_last_lr()[0])
    if epoch % 20 == 0:
        print(f"epoch {epoch:2d}: lr {optimizer.param_groups[0]['lr']:.6f}, loss {loss:.4f}")

# Phase 2: SGD with momentum; the rate follows half a cosine
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
scheduler = CosineAnnealingLR(optimizer, T_max=40, eta_min=0.001)
for _ in range(40):
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
    rates.append(optimizer.param_groups[0]["lr"])

print(f"final loss {losses[-1]:.5f}, final rate {rates[-1]:.5f}")
assert abs(rates[59] - 1e-5) < 1e-12
assert abs(rates[-1] - 0.001) < 1e-12
losses += rates
