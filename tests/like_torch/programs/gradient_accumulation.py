"""Gradient accumulation over four small batches, and clipping by the norm."""

import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

data, target = load_diabetes(return_X_y=True, scaled=True)
X = torch.tensor(data, dtype=torch.float32) * 20
y = torch.tensor(target, dtype=torch.float32).unsqueeze(1) / 100
loader = DataLoader(TensorDataset(X, y), batch_size=8, shuffle=True)

model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

accumulation_steps = 4
losses = []
norms = []

for epoch in range(3):
    model.train()
    optimizer.zero_grad()
    for step, (inputs, targets) in enumerate(loader):
        predictions = model(inputs)
        loss = criterion(predictions, targets)
        losses.append(loss.item())

        loss = loss / accumulation_steps  # normalize, because gradients are summed
        loss.backward()

        if (step + 1) % accumulation_steps == 0 or (step + 1) == len(loader):
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            norms.append(float(norm))
            optimizer.step()
            optimizer.zero_grad()
    average = sum(losses[-len(loader) :]) / len(loader)
    print(f"epoch {epoch}: loss {average:.4f}, largest gradient norm {max(norms):.4f}")

assert max(norms) > 1.0  # clipping had something to do
losses += norms
