"""Multi-label classification: BCEWithLogitsLoss(pos_weight), class weights, precision, recall."""

import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.manual_seed(7)
n, n_features, n_labels = 240, 10, 5
X = torch.randn(n, n_features)
W = torch.randn(n_features, n_labels)
Y = ((X @ W + 0.5 * torch.randn(n, n_labels)) > 2.0).float()

# Rare labels count more
positives = Y.sum(dim=0)
pos_weight = (len(Y) - positives) / positives.clamp(min=1)
print("pos_weight", pos_weight)

train_ds = TensorDataset(X[:200], Y[:200])
train_dl = DataLoader(train_ds, batch_size=40, shuffle=True)


class MultiLabelNet(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_size, 24),
            nn.LayerNorm(24),
            nn.ELU(alpha=1.0),
            nn.Linear(24, output_size),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.layers(x)


model = MultiLabelNet(n_features, n_labels)
criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
optimizer = optim.NAdam(model.parameters(), lr=0.01)

losses = []
for epoch in range(6):
    model.train()
    for xb, yb in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

model.eval()
with torch.no_grad():
    probs = torch.sigmoid(model(X[200:]))
    preds = (probs >= 0.5).int()
    target = Y[200:].int()
tp = ((preds == 1) & (target == 1)).sum(dim=0)
fp = torch.logical_and(preds == 1, target == 0).sum(dim=0)
fn = ((preds == 0) & (target == 1)).sum(dim=0)
f1 = 2 * tp / (2 * tp + fp + fn + 1e-8)
print("F1 per label:", [round(v, 2) for v in f1.tolist()], "macro:", round(f1.mean().item(), 3))
losses.append(probs.mean().item())

# One class per sample, with class weights and padding labels ignored
classes = torch.where(Y.sum(1) > 0, Y.argmax(1), -100)
counts = torch.bincount(classes[classes >= 0], minlength=n_labels)
class_weights = counts.sum() / (n_labels * counts.float())
head = nn.Linear(n_features, n_labels)
ce = nn.CrossEntropyLoss(weight=class_weights, ignore_index=-100)
optimizer = optim.Adam(head.parameters(), lr=0.05, amsgrad=True)
for _ in range(15):
    optimizer.zero_grad()
    loss = ce(head(X), classes)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

sample_weights = torch.where(Y[:200].sum(1) > 0, 3.0, 1.0)
sampler = WeightedRandomSampler(sample_weights, num_samples=len(sample_weights), replacement=True)
balanced = DataLoader(train_ds, batch_size=50, sampler=sampler)
assert sum(len(xb) for xb, _ in balanced) == 200
