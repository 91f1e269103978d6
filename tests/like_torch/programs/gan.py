"""A generative adversarial network: two optimizers, labels of ones and zeros, detach."""

import torch
import torch.nn as nn

torch.set_default_dtype(torch.float64)

latent_dim, hidden, batch_size = 4, 16, 32


def real_data(n):
    """Points on a ring."""
    angle = torch.rand(n) * 2 * torch.pi
    return torch.stack((torch.cos(angle), torch.sin(angle)), dim=1) + 0.05 * torch.randn(n, 2)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()

        def block(in_feat, out_feat, normalize=True):
            layers = [nn.Linear(in_feat, out_feat)]
            if normalize:
                layers.append(nn.BatchNorm1d(out_feat, 0.8))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(latent_dim, hidden, normalize=False),
            *block(hidden, hidden),
            nn.Linear(hidden, 2),
        )

    def forward(self, z):
        return self.model(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(2, hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(hidden, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.model(x)


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Linear") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.3)
        nn.init.constant_(m.bias.data, 0)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


generator, discriminator = Generator(), Discriminator()
generator.apply(weights_init)
discriminator.apply(weights_init)
adversarial_loss = nn.BCELoss()
optimizer_G = torch.optim.Adam(generator.parameters(), lr=0.002, betas=(0.5, 0.999))
optimizer_D = torch.optim.Adam(discriminator.parameters(), lr=0.002, betas=(0.5, 0.999))

losses = []
for step in range(40):
    real = real_data(batch_size)
    valid = torch.ones(batch_size, 1, requires_grad=False)
    fake = torch.zeros(batch_size, 1, requires_grad=False)

    # Train the generator
    optimizer_G.zero_grad()
    z = torch.randn(batch_size, latent_dim)
    gen = generator(z)
    g_loss = adversarial_loss(discriminator(gen), valid)
    g_loss.backward()
    optimizer_G.step()

    # Train the discriminator
    optimizer_D.zero_grad()
    real_loss = adversarial_loss(discriminator(real), valid)
    fake_loss = adversarial_loss(discriminator(gen.detach()), fake)
    d_loss = (real_loss + fake_loss) / 2
    d_loss.backward()
    optimizer_D.step()

    losses += [g_loss.item(), d_loss.item()]
    if step % 10 == 0:
        print("[Step %d] [D loss: %f] [G loss: %f]" % (step, d_loss.item(), g_loss.item()))

generator.eval()
with torch.no_grad():
    points = generator(torch.randn(100, latent_dim))
print("mean radius", points.norm(2, dim=1).mean().item())
losses.append(points.norm(2, dim=1).mean().item())
