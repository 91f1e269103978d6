"""Label smoothing, gradient clipping, and averages of weights: SWA and an EMA by hand."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

data = load_digits()
X = torch.tensor(data.data / 16.0, dtype=torch.float32)
y = torch.tensor(data.target)
loader = DataLoader(TensorDataset(X[:600], y[:600]), batch_size=60, shuffle=True)

model = nn.Sequential(
    nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = copy.deepcopy(model)
        self.shadow.eval()
        for p in self.shadow.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for s, p in zip(self.shadow.parameters(), model.parameters()):
            s.data.mul_(self.decay).add_(p.data, alpha=1 - self.decay)
        for s, b in zip(self.shadow.buffers(), model.buffers()):
            s.copy_(b)


optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-4)
scheduler = CosineAnnealingLR(optimizer, T_max=4)
swa_model = AveragedModel(model)
swa_start = 3
swa_scheduler = SWALR(optimizer, swa_lr=0.05)
ema = EMA(model, decay=0.9)

losses = []
for epoch in range(6):
    model.train()
    for inputs, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), target)
        loss.backward()
        total_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        ema.update(model)
        losses.append(loss.item())
    losses.append(float(total_norm))
    if epoch > swa_start:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
    print(epoch, f"{loss.item():.4f}", optimizer.param_groups[0]["lr"])

# Batch statistics of the averaged weights
update_bn(loader, swa_model)
swa_model.eval()
model.eval()
with torch.no_grad():
    for name, net in (("last", model), ("SWA", swa_model), ("EMA", ema.shadow)):
        logits = net(X[600:1000])
        losses.append(F.cross_entropy(logits, y[600:1000]).item())
        print(name, (logits.argmax(1) == y[600:1000]).float().mean().item())
