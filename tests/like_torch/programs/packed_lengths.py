"""Names of different lengths classified by a bidirectional GRU over packed sequences."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
NAMES = {
    "Italian": ["rossi", "bianchi", "ferrari", "esposito", "romano", "ricci", "marino", "greco"],
    "English": ["smith", "jones", "taylor", "brown", "wilson", "evans", "wright", "hughes"],
    "Czech": ["novak", "svoboda", "dvorak", "cerny", "prochazka", "kucera", "vesely", "horak"],
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class NameDataset(Dataset):
    def __init__(self):
        self.languages = list(NAMES)
        self.items = [(name, i) for i, k in enumerate(self.languages) for name in NAMES[k]]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        name, label = self.items[index]
        return torch.tensor([LETTERS.index(c) + 1 for c in name]), label


def collate_fn(batch):
    # Sort by length, longest first
    batch.sort(key=lambda item: len(item[0]), reverse=True)
    sequences, labels = zip(*batch)
    lengths = torch.tensor([len(seq) for seq in sequences])
    padded = pad_sequence(sequences, batch_first=True, padding_value=0)
    return padded, lengths, torch.tensor(labels)


class Classifier(nn.Module):
    def __init__(self, vocab_size, embedding_dim, hidden_dim, output_dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.gru = nn.GRU(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * hidden_dim, 1)
        self.fc = nn.Linear(4 * hidden_dim, output_dim)

    def forward(self, text, lengths):
        embedded = self.embedding(text)
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True)
        packed_output, hidden = self.gru(packed)
        output, output_lengths = pad_packed_sequence(packed_output, batch_first=True)
        assert torch.equal(output_lengths, lengths)

        # Attention over the letters that are there
        mask = torch.arange(output.size(1))[None, :] < lengths[:, None]
        scores = self.attention(output).squeeze(-1)
        scores = scores.masked_fill(~mask, float("-inf"))
        weights = F.softmax(scores, dim=1)
        context = torch.bmm(weights.unsqueeze(1), output).squeeze(1)

        hidden = torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1)
        return self.fc(torch.cat([context, hidden], dim=1))


loader = DataLoader(NameDataset(), batch_size=8, shuffle=True, collate_fn=collate_fn)
model = Classifier(len(LETTERS) + 1, 6, 5, len(NAMES))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
losses = []
for epoch in range(8):
    model.train()
    correct = 0
    for padded, lengths, labels in loader:
        optimizer.zero_grad()
        logits = model(padded, lengths)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), clip_value=0.5)
        optimizer.step()
        losses.append(loss.item())
        correct += (logits.argmax(dim=-1) == labels).sum().item()
    print(f"epoch {epoch}: accuracy {correct / len(loader.dataset):.2f}")
assert torch.all(model.embedding.weight[0] == 0)
