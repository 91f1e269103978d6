"""The classic loop (zero_grad, backward, step) on a custom Dataset; momentum and weight decay."""

import torch
from sklearn.datasets import load_wine
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset


class WineDataset(Dataset):
    def __init__(self, transform=None):
        wine = load_wine()
        self.x = ((wine.data - wine.data.mean(axis=0)) / wine.data.std(axis=0)).astype("float32")
        self.y = wine.target
        self.transform = transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        sample = self.x[index], self.y[index]
        return self.transform(sample) if self.transform else sample


class ToTensor:
    def __call__(self, sample):
        features, target = sample
        return torch.from_numpy(features), torch.tensor(target)


dataset = WineDataset(transform=ToTensor())
trainloader = DataLoader(dataset, batch_size=16, shuffle=True, num_workers=0, drop_last=True)

net = nn.Sequential(
    nn.Linear(13, 32),
    nn.ReLU(),
    nn.Linear(32, 3),
)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

losses = []
for epoch in range(5):  # loop over the dataset multiple times
    running_loss = 0.0
    for i, data in enumerate(trainloader, 0):
        # get the inputs; data is a list of [inputs, labels]
        inputs, labels = data

        # zero the parameter gradients
        optimizer.zero_grad()

        # forward + backward + optimize
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()

        # print statistics
        losses.append(loss.item())
        running_loss += loss.item() * inputs.size(0)
        if i % 5 == 4:
            print(f"[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 80:.3f}")
            running_loss = 0.0

print("Finished Training")
first, _ = dataset[0]
print("first sample:", first.shape[0], "features, class", net(first.unsqueeze(0)).argmax(1).item())
