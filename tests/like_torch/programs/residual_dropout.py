"""A custom Module: ModuleList, residual blocks and dropout; counting and printing parameters."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.from_numpy(digits.target).long()
train_loader = DataLoader(TensorDataset(X[:1200], y[:1200]), batch_size=100, shuffle=True)
X_test, y_test = X[1200:], y[1200:]


class ResidualBlock(nn.Module):
    def __init__(self, dim, p):
        super().__init__()
        self.fc = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(p)

    def forward(self, x):
        return x + self.dropout(F.relu(self.fc(x)))


class ResNet(nn.Module):
    def __init__(self, in_dim=64, dim=32, depth=3, num_classes=10, p=0.5):
        super().__init__()
        self.stem = nn.Linear(in_dim, dim)
        self.blocks = nn.ModuleList([ResidualBlock(dim, p) for _ in range(depth)])
        self.scale = nn.Parameter(torch.ones(dim))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x * self.scale)


model = ResNet()
print(model)
n_params = sum(p.numel() for p in model.parameters() if p.requires_grad)
print(f"{n_params:,} trainable parameters")
for name, param in model.named_parameters():
    print(name, list(param.shape))

optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
losses = []
for epoch in range(4):
    model.train()
    for inputs, labels in train_loader:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    model.eval()
    with torch.no_grad():
        logits = model(X_test)
        losses.append(F.cross_entropy(logits, y_test).item())
        accuracy = (logits.argmax(dim=1) == y_test).float().mean().item()
    print(f"epoch {epoch + 1}: test accuracy {accuracy:.3f}")

assert n_params == 64 * 32 + 32 + 3 * (32 * 32 + 32) + 32 + 32 * 10 + 10
