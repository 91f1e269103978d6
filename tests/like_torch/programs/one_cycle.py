"""A learning-rate range test, then training with the one-cycle policy."""

import copy

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

X, y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(dim=0, keepdim=True)) / (X.std(dim=0, keepdim=True) + 1e-6)
y = torch.tensor(y)
train_loader = DataLoader(TensorDataset(X[:800], y[:800]), batch_size=80, shuffle=True)

model = nn.Sequential(
    nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.SiLU(), nn.Linear(32, 10)
)
criterion = nn.CrossEntropyLoss()
losses = []


class LRFinder:
    def __init__(self, model, optimizer, criterion):
        self.optimizer = optimizer
        self.model = model
        self.criterion = criterion
        self.initial_state = copy.deepcopy(model.state_dict())

    def range_test(self, loader, end_lr=10, num_iter=20, smooth_f=0.05, diverge_th=5):
        lrs, found = [], []
        best_loss = None
        start_lr = self.optimizer.param_groups[0]["lr"]
        iterator = iter(loader)
        for iteration in range(num_iter):
            try:
                inputs, labels = next(iterator)
            except StopIteration:
                iterator = iter(loader)
                inputs, labels = next(iterator)
            lr = start_lr * (end_lr / start_lr) ** (iteration / (num_iter - 1))
            for param_group in self.optimizer.param_groups:
                param_group["lr"] = lr
            self.model.train()
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(inputs), labels)
            loss.backward()
            self.optimizer.step()
            loss = loss.item()
            if iteration == 0:
                best_loss = loss
            else:
                loss = smooth_f * loss + (1 - smooth_f) * found[-1]
                best_loss = min(best_loss, loss)
            lrs.append(lr)
            found.append(loss)
            if loss > diverge_th * best_loss:
                break
        self.model.load_state_dict(self.initial_state)
        return lrs, found


optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
lrs, found = LRFinder(model, optimizer, criterion).range_test(train_loader, end_lr=1.0)
losses += found
steepest = min(range(1, len(found)), key=lambda i: found[i] - found[i - 1])
max_lr = lrs[steepest]
print(f"steepest at lr = {max_lr:.5f}")

epochs = 3
optimizer = torch.optim.SGD(model.parameters(), lr=max_lr, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=max_lr, epochs=epochs, steps_per_epoch=len(train_loader)
)
for epoch in range(epochs):
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses += [loss.item(), optimizer.param_groups[0]["momentum"]]
        scheduler.step()
    print(f"epoch {epoch}: loss {loss.item():.4f}, lr {scheduler.get_last_lr()}")

model.eval()
with torch.no_grad():
    accuracy = (model(X[800:]).argmax(1) == y[800:]).float().mean()
print(f"accuracy: {accuracy:.2%}")
assert accuracy > 0.8
