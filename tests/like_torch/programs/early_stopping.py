"""Train and evaluate functions, no_grad, the best model kept, and early stopping."""

import copy

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

data, target = load_breast_cancer(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(data), dtype=torch.float32)
y = torch.tensor(target, dtype=torch.float32)

dataset = TensorDataset(X, y)
n_val = int(0.3 * len(dataset))
generator = torch.Generator().manual_seed(42)
train_set, val_set = random_split(dataset, [len(dataset) - n_val, n_val], generator=generator)
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=64)

model = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 1))
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
losses = []


def train_one_epoch():
    model.train()
    running_loss = 0.0
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb).squeeze(), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        running_loss += loss.item() * xb.size(0)
    return running_loss / len(train_loader.dataset)


@torch.no_grad()
def evaluate():
    model.eval()
    total_loss, correct = 0.0, 0
    for xb, yb in val_loader:
        logits = model(xb).squeeze(1)
        total_loss += criterion(logits, yb).item() * len(yb)
        correct += ((torch.sigmoid(logits) > 0.5) == yb.bool()).sum().item()
    return total_loss / len(val_set), correct / len(val_set)


best_loss, best_state, patience, bad_epochs = float("inf"), None, 2, 0
for epoch in range(20):
    train_loss = train_one_epoch()
    val_loss, val_acc = evaluate()
    losses.append(val_loss)
    print(f"epoch {epoch}: train {train_loss:.4f}, val {val_loss:.4f}, accuracy {val_acc:.3f}")
    if val_loss < best_loss:
        best_loss, bad_epochs = val_loss, 0
        best_state = copy.deepcopy(model.state_dict())
    else:
        bad_epochs += 1
        if bad_epochs >= patience:
            print("early stopping at epoch", epoch)
            break

model.load_state_dict(best_state)
val_loss, val_acc = evaluate()
assert abs(val_loss - best_loss) < 1e-6
losses.append(val_loss)
