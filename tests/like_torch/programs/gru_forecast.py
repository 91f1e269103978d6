"""A GRU that forecasts a series: windows, the last step's output, RMSE beside the persistence."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
t = np.arange(0, 160)
series = np.sin(2 * np.pi * t / 24) + 0.3 * np.sin(2 * np.pi * t / 7) + 0.01 * t
mean, std = series[:120].mean(), series[:120].std()
normalized = (series - mean) / std


def create_sequences(data, lookback):
    xs, ys = [], []
    for i in range(len(data) - lookback):
        xs.append(data[i : i + lookback])
        ys.append(data[i + lookback])
    return torch.tensor(np.array(xs)).unsqueeze(-1), torch.tensor(np.array(ys)).unsqueeze(-1)


lookback = 12
X, y = create_sequences(normalized, lookback)
X_train, y_train, X_test, y_test = X[:100], y[:100], X[100:], y[100:]


class GRUModel(nn.Module):
    def __init__(self, input_dim, hidden_dim, num_layers, output_dim):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.gru = nn.GRU(input_dim, hidden_dim, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_dim).requires_grad_()
        out, hn = self.gru(x, h0.detach())
        return self.fc(out[:, -1, :])


model = GRUModel(input_dim=1, hidden_dim=8, num_layers=2, output_dim=1)
for name, param in model.gru.named_parameters():
    if "weight_hh" in name:
        nn.init.xavier_uniform_(param)
    elif "bias" in name:
        param.data.zero_()
loss_fn = nn.SmoothL1Loss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.005)
loader = DataLoader(TensorDataset(X_train, y_train), batch_size=25, shuffle=True)

losses = []
for epoch in range(10):
    model.train()
    for xb, yb in loader:
        loss = loss_fn(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    model.eval()
    with torch.no_grad():
        rmse = torch.sqrt(nn.functional.mse_loss(model(X_test), y_test))
    losses.append(rmse.item())
    if epoch % 3 == 0:
        print(f"epoch {epoch}: test RMSE {rmse.item() * std:.4f}")

persistence = torch.sqrt(torch.mean((X_test[:, -1] - y_test) ** 2)).item()
print(f"persistence RMSE {persistence * std:.4f}")

# Forecast ten steps ahead, each from the one before
window = X_test[:1]
forecast = []
with torch.no_grad():
    for _ in range(10):
        next_value = model(window)
        forecast.append(next_value.item())
        window = torch.cat((window[:, 1:, :], next_value.unsqueeze(1)), dim=1)
losses += forecast
