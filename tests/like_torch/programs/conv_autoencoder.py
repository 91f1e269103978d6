"""A denoising convolutional autoencoder: strides down, ConvTranspose2d up."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    def __init__(self, transform=None):
        self.images = load_digits().images[:256].astype(np.float32) / 16
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).unsqueeze(0)
        if self.transform:
            image = self.transform(image)
        return image


class ConvAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        # Encoder
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        # Decoder
        self.t_conv1 = nn.ConvTranspose2d(4, 8, 2, stride=2)
        self.t_conv2 = nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.pool(x)
        x = F.relu(self.t_conv1(x))
        return torch.sigmoid(self.t_conv2(x))


def add_noise(images, noise_factor=0.3):
    noisy = images + noise_factor * torch.randn(*images.shape)
    return torch.clip(noisy, 0.0, 1.0)


loader = DataLoader(Digits(transform=lambda im: im * 0.9 + 0.05), batch_size=32, shuffle=True)
model = ConvAutoencoder()
criterion = nn.BCELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

losses = []
for epoch in range(1, 4):
    train_loss = 0.0
    for images in loader:
        noisy = add_noise(images)
        optimizer.zero_grad()
        outputs = model(noisy)
        loss = criterion(outputs, images)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * images.size(0)
        losses.append(loss.item())
    print("Epoch: {} \tTraining Loss: {:.6f}".format(epoch, train_loss / len(loader.dataset)))

batch = next(iter(loader))
with torch.no_grad():
    output = model(batch)
assert output.shape == batch.shape
losses.append(F.l1_loss(output, batch).item())
losses.append(F.interpolate(output, scale_factor=2, mode="nearest").mean().item())
