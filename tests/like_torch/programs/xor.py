"""XOR with a small multilayer perceptron, sigmoids and BCELoss."""

import torch
import torch.nn as nn
import torch.optim as optim

torch.manual_seed(42)

X = torch.Tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = torch.Tensor([0, 1, 1, 0]).view(-1, 1)


class XOR(nn.Module):
    def __init__(self, input_dim=2, hidden_dim=8, output_dim=1):
        super().__init__()
        self.lin1 = nn.Linear(input_dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        x = torch.tanh(self.lin1(x))
        x = self.lin2(x)
        return torch.sigmoid(x)


model = XOR()
loss_func = nn.BCELoss()
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

losses = []
for i in range(300):
    optimizer.zero_grad()
    y_hat = model(X)
    loss = loss_func(y_hat, Y)
    loss.backward()
    optimizer.step()
    losses.append(loss.data.item())

    if i % 100 == 0:
        print(f"Epoch: {i}, Loss: {loss.item():.4f}")

with torch.no_grad():
    predicted = (model(X) > 0.5).float()
    correct = (predicted == Y).sum().item()
print("predictions:", predicted.squeeze().tolist(), "accuracy:", correct / Y.size(0))
assert correct == 4
