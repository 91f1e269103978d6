"""state_dict: save, load, and resume from a checkpoint so that training goes on as if never cut."""

import os

import torch
import torch.nn as nn
import torch.optim as optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


X = torch.randn(64, 4)
y = (X[:, 0] * X[:, 1] + X[:, 2]).unsqueeze(1)
criterion = nn.MSELoss()


def train(model, optimizer, epochs):
    history = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = criterion(model(X), y)
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


model = Net()
optimizer = optim.Adam(model.parameters(), lr=0.01)
losses = train(model, optimizer, epochs=20)

# Save a checkpoint
PATH = "checkpoint.pt"
torch.save(
    {
        "epoch": 20,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": losses[-1],
    },
    PATH,
)
went_on = train(model, optimizer, epochs=20)

# Load it into a fresh model and a fresh optimizer
model2 = Net()
optimizer2 = optim.Adam(model2.parameters(), lr=0.5)
checkpoint = torch.load(PATH, weights_only=True)
model2.load_state_dict(checkpoint["model_state_dict"])
optimizer2.load_state_dict(checkpoint["optimizer_state_dict"])
assert checkpoint["epoch"] == 20
assert checkpoint["loss"] == losses[-1]
assert optimizer2.param_groups[0]["lr"] == 0.01

model2.train()
resumed = train(model2, optimizer2, epochs=20)
assert resumed == went_on, "a resumed run must equal the run that was never cut"
losses += resumed

# The weights alone, for inference
torch.save(model.state_dict(), "weights.pth")
model3 = Net()
print(model3.load_state_dict(torch.load("weights.pth", map_location=torch.device("cpu"))))
model3.eval()
for name, tensor in model3.state_dict().items():
    print(name, "\t", tuple(tensor.size()))
    assert torch.equal(tensor, model.state_dict()[name])
with torch.no_grad():
    losses.append(criterion(model3(X), y).item())
print(f"final loss {losses[-1]:.4f}, {os.path.getsize(PATH) > 0}")
