"""word2vec: skip-gram with negative sampling, two embeddings and logsigmoid; nearest words."""

from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

corpus = """the king rules the land and the queen rules the land
the dog chases the cat and the cat chases the mouse
the king loves the queen and the dog loves the bone""".split()
counts = Counter(corpus)
vocab = list(counts)
word_to_ix = {word: i for i, word in enumerate(vocab)}
window = 2
pairs = []
for i in range(len(corpus)):
    for j in range(max(0, i - window), min(len(corpus), i + window + 1)):
        if i != j:
            pairs.append((word_to_ix[corpus[i]], word_to_ix[corpus[j]]))
pairs = torch.tensor(pairs)

# Negative words are drawn with the frequencies to the power of 3/4
freq = torch.tensor([counts[word] for word in vocab], dtype=torch.float)
noise = freq.pow(0.75) / freq.pow(0.75).sum()


class SkipGramNegativeSampling(nn.Module):
    def __init__(self, vocab_size, embedding_dim):
        super().__init__()
        self.in_embed = nn.Embedding(vocab_size, embedding_dim)
        self.out_embed = nn.Embedding(vocab_size, embedding_dim)
        initrange = 0.5 / embedding_dim
        self.in_embed.weight.data.uniform_(-initrange, initrange)
        self.out_embed.weight.data.uniform_(-initrange, initrange)

    def forward(self, center, context, negatives):
        v = self.in_embed(center)  # (B, D)
        u = self.out_embed(context)  # (B, D)
        neg = self.out_embed(negatives)  # (B, K, D)
        positive_score = torch.sum(torch.mul(v, u), dim=1)
        negative_score = torch.bmm(neg.neg(), v.unsqueeze(2)).squeeze(2)
        loss = F.logsigmoid(positive_score) + torch.sum(F.logsigmoid(negative_score), dim=1)
        return -torch.mean(loss)


model = SkipGramNegativeSampling(len(vocab), 8)
optimizer = optim.Adagrad(model.parameters(), lr=0.3)
batch_size, k = 32, 4
losses = []
for epoch in range(8):
    perm = torch.randperm(len(pairs))
    total_loss = 0.0
    for i in range(0, len(pairs), batch_size):
        batch = pairs[perm[i : i + batch_size]]
        center, context = batch[:, 0], batch[:, 1]
        negatives = torch.multinomial(noise, len(batch) * k, replacement=True).view(-1, k)
        optimizer.zero_grad()
        loss = model(center, context, negatives)
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
        losses.append(loss.item())
    print(f"Epoch {epoch + 1}, loss {total_loss:.4f}")

# The words nearest to one, by cosine similarity
embeddings = model.in_embed.weight.detach()
similarity = F.cosine_similarity(embeddings[word_to_ix["king"]].unsqueeze(0), embeddings, dim=1)
values, indices = torch.topk(similarity, k=4)
print([(vocab[i], round(v, 3)) for v, i in zip(values.tolist(), indices.tolist())])
losses += values.tolist()
normalized = F.normalize(embeddings, dim=1).numpy()
assert np.allclose(np.linalg.norm(normalized, axis=1), 1, atol=1e-5)
