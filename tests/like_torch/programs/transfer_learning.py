"""Transfer learning: a VGG-style network, its features frozen, a new classifier on top."""

import torch
from sklearn.datasets import load_digits
from torch import nn, optim

digits = load_digits()
X = torch.tensor(digits.images[:400] / 16.0, dtype=torch.float).unsqueeze(1)
Y = torch.tensor(digits.target[:400], dtype=torch.long)

cfg = {"A": [8, "M", 16, "M"]}


class VGG(nn.Module):
    def __init__(self, features, num_classes):
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(16 * 2 * 2, 32),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(32, num_classes),
        )

    def forward(self, x):
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.classifier(x)
        return x


def make_layers(cfg):
    layers = []
    in_channels = 1
    for v in cfg:
        if v == "M":
            layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
        else:
            conv2d = nn.Conv2d(in_channels, v, kernel_size=3, padding=1)
            layers += [conv2d, nn.BatchNorm2d(v), nn.ReLU(inplace=True)]
            in_channels = v
    return nn.Sequential(*layers)


def fit(model, optimizer, x, y, steps):
    criterion = nn.CrossEntropyLoss()
    history = []
    for step in range(steps):
        i = step * 50 % len(x)
        optimizer.zero_grad()
        loss = criterion(model(x[i : i + 50]), y[i : i + 50])
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


# "Pre-training" on the digits 0 to 4
known = Y < 5
source = VGG(make_layers(cfg["A"]), num_classes=5)
losses = fit(source, optim.SGD(source.parameters(), lr=0.05, momentum=0.9), X[known], Y[known], 12)
torch.save(source.state_dict(), "vgg.pth")

# Load the weights, freeze the features, replace the last layer
model = VGG(make_layers(cfg["A"]), num_classes=5)
model.load_state_dict(torch.load("vgg.pth", weights_only=True))
for param in model.parameters():
    param.requires_grad = False
num_ftrs = model.classifier[3].in_features
model.classifier[3] = nn.Linear(num_ftrs, 5)
for param in model.classifier.parameters():
    param.requires_grad = True
trainable = [name for name, p in model.named_parameters() if p.requires_grad]
print("trainable:", trainable)
assert trainable == [f"classifier.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias")]

before = model.features[0].weight.clone()
optimizer = optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.05, momentum=0.9)
model.train()
model.features.eval()
losses += fit(model, optimizer, X[~known], Y[~known] - 5, 15)
assert torch.equal(model.features[0].weight, before)
assert model.features[0].weight.grad is None

# Fine-tune everything, the features with a smaller learning rate
for param in model.features.parameters():
    param.requires_grad_(True)
optimizer = optim.Adam(
    [
        {"params": model.features.parameters(), "lr": 1e-4},
        {"params": model.classifier.parameters()},
    ],
    lr=1e-3,
)
losses += fit(model, optimizer, X[~known], Y[~known] - 5, 8)
assert not torch.equal(model.features[0].weight, before)

model.eval()
with torch.no_grad():
    accuracy = (model(X[~known]).argmax(1) == Y[~known] - 5).float().mean()
print(f"accuracy {accuracy.item():.3f}")
assert accuracy > 0.6
