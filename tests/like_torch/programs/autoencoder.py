"""A linear autoencoder: digits squeezed through three numbers, with an L1 penalty on the code."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

data = torch.tensor(load_digits().data[:512], dtype=torch.float32) / 16
loader = DataLoader(dataset=data, batch_size=64, shuffle=True)


class AE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(8 * 8, 32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 16),
            torch.nn.ReLU(),
            torch.nn.Linear(16, 3),
        )
        self.decoder = torch.nn.Sequential(
            torch.nn.Linear(3, 16),
            torch.nn.ReLU(),
            torch.nn.Linear(16, 32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 8 * 8),
            torch.nn.Sigmoid(),
        )

    def forward(self, x):
        encoded = self.encoder(x)
        decoded = self.decoder(encoded)
        return encoded, decoded


model = AE()
loss_function = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-8)

losses = []
for epoch in range(3):
    for batch in loader:
        image = batch.reshape(-1, 8 * 8)
        code, reconstructed = model(image)
        loss = loss_function(reconstructed, image) + 1e-4 * torch.norm(code, p=1, dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().item())
    print("epoch : {}/{}, loss = {:.6f}".format(epoch + 1, 3, losses[-1]))

with torch.inference_mode():
    codes = model.encoder(data[:10])
    errors = (model.decoder(codes) - data[:10]).pow(2).mean(dim=1)
losses.extend(errors.cpu().numpy().tolist())
assert codes.shape == torch.Size([10, 3])
