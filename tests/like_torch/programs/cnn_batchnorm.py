"""BatchNorm2d and Dropout2d in training and in evaluation; the best weights are kept."""

import copy

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split


def conv_block(in_channels, out_channels, pool=False):
    layers = [
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class ConvNet(nn.Module):
    def __init__(self, in_channels=1, num_classes=10):
        super().__init__()
        self.conv1 = conv_block(in_channels, 8)
        self.conv2 = conv_block(8, 16, pool=True)
        self.drop = nn.Dropout2d(p=0.2)
        self.conv3 = conv_block(16, 16, pool=True)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(16, num_classes)
        )

    def forward(self, x):
        out = self.conv1(x)
        out = self.conv2(out)
        out = self.drop(out)
        out = self.conv3(out)
        return self.classifier(out)


digits = load_digits()
x = torch.from_numpy(digits.images).float()[:, None] / 16
y = torch.from_numpy(digits.target).long()
dataset = TensorDataset(x[:400], y[:400])
train_set, val_set = random_split(dataset, [300, 100])
loaders = {
    "train": DataLoader(train_set, batch_size=50, shuffle=True, drop_last=True),
    "val": DataLoader(val_set, batch_size=100, shuffle=False),
}

model = ConvNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)

losses = []
best_acc = 0.0
best_model_wts = copy.deepcopy(model.state_dict())
for epoch in range(3):
    for phase in ["train", "val"]:
        if phase == "train":
            model.train()
        else:
            model.eval()
        running_loss, running_corrects = 0.0, 0
        for inputs, labels in loaders[phase]:
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                outputs = model(inputs)
                _, preds = torch.max(outputs, 1)
                loss = criterion(outputs, labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
            running_loss += loss.item() * inputs.size(0)
            running_corrects += torch.sum(preds == labels.data)
            losses.append(loss.item())
        epoch_loss = running_loss / len(loaders[phase].dataset)
        epoch_acc = running_corrects.double() / len(loaders[phase].dataset)
        print(f"{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
        if phase == "val" and epoch_acc > best_acc:
            best_acc = epoch_acc
            best_model_wts = copy.deepcopy(model.state_dict())

model.load_state_dict(best_model_wts)
model.eval()
with torch.no_grad():
    losses.append(criterion(model(x[:200]), y[:200]).item())
bn = model.conv1[1]
print("running mean", bn.running_mean, "batches", bn.num_batches_tracked.item())
losses.extend(bn.running_var.tolist())
