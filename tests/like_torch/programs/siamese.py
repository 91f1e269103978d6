"""A siamese network: contrastive loss over pairs, then a triplet loss; nearest prototype."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.set_default_dtype(torch.float64)

digits = load_digits(n_class=4)
X = torch.from_numpy(digits.images[:200]).unsqueeze(1) / 16
y = torch.from_numpy(digits.target[:200])


class SiameseNetwork(nn.Module):
    def __init__(self):
        super(SiameseNetwork, self).__init__()
        self.cnn1 = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 8, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.fc1 = nn.Sequential(nn.Linear(8 * 4 * 4, 16), nn.PReLU(), nn.Linear(16, 4))

    def forward_once(self, x):
        output = self.cnn1(x)
        output = output.view(output.size()[0], -1)
        output = self.fc1(output)
        return output

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        return output1, output2


class ContrastiveLoss(torch.nn.Module):
    """
    Contrastive loss function.
    Based on: http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf
    """

    def __init__(self, margin=2.0):
        super(ContrastiveLoss, self).__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        euclidean_distance = F.pairwise_distance(output1, output2)
        loss_contrastive = torch.mean(
            (1 - label) * torch.pow(euclidean_distance, 2)
            + (label) * torch.pow(torch.clamp(self.margin - euclidean_distance, min=0.0), 2)
        )
        return loss_contrastive


net = SiameseNetwork()
criterion = ContrastiveLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=0.005)

losses = []
for step in range(20):
    first, second = torch.randperm(len(X))[:32], torch.randperm(len(X))[:32]
    label = (y[first] != y[second]).double()
    output1, output2 = net(X[first], X[second])
    optimizer.zero_grad()
    loss_contrastive = criterion(output1, output2, label)
    loss_contrastive.backward()
    optimizer.step()
    losses.append(loss_contrastive.item())

# Triplets: an anchor, one of the same class, one of another
triplet_loss = nn.TripletMarginLoss(margin=1.0, p=2)
by_class = [torch.nonzero(y == c).squeeze(1) for c in range(4)]
for step in range(10):
    same, other = by_class[step % 4], by_class[(step + 1) % 4]
    anchor, positive, negative = same[:20], same[20:40], other[:20]
    embedded = net.forward_once(torch.cat([X[anchor], X[positive], X[negative]]))
    loss = triplet_loss(*torch.chunk(embedded, 3))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print("contrastive %.4f, triplet %.4f" % (losses[19], losses[-1]))

net.eval()
with torch.no_grad():
    embedded = net.forward_once(X)
    prototypes = torch.stack([embedded[rows].mean(dim=0) for rows in by_class])
    distances = torch.cdist(embedded, prototypes)
    accuracy = (distances.argmin(dim=1) == y).sum().item() / len(y)
print("nearest prototype:", accuracy)
losses.append(distances.min(dim=1).values.mean().item())
