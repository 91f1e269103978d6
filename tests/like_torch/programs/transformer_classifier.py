"""A Transformer encoder that classifies sentences: positions added, padding masked, mean pooled."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
SENTENCES = [
    ("i loved this film", 1),
    ("a wonderful story and a wonderful cast", 1),
    ("great fun from start to end", 1),
    ("the best film of the year", 1),
    ("i hated this film", 0),
    ("a dull story and a weak cast", 0),
    ("no fun at all", 0),
    ("the worst film of the year", 0),
]
itos = ["<pad>"] + sorted({word for text, _ in SENTENCES for word in text.split()})
stoi = {word: i for i, word in enumerate(itos)}


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout=0.1, max_len=50):
        super(PositionalEncoding, self).__init__()
        self.dropout = nn.Dropout(p=dropout)

        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.stack([torch.sin(position * div_term), torch.cos(position * div_term)], dim=-1)
        pe = pe.flatten(1).unsqueeze(0)
        self.register_buffer("pe", pe)

    def forward(self, x):
        x = x + self.pe[:, : x.size(1)]
        return self.dropout(x)


class TransformerClassifier(nn.Module):
    def __init__(self, ntoken, d_model, nhead, d_hid, nlayers, n_classes):
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(ntoken, d_model)
        self.pos_encoder = PositionalEncoding(d_model, 0.0)
        encoder_layers = nn.TransformerEncoderLayer(
            d_model, nhead, d_hid, dropout=0.0, activation="gelu", batch_first=True
        )
        self.transformer_encoder = nn.TransformerEncoder(encoder_layers, nlayers)
        self.decoder = nn.Linear(d_model, n_classes)
        self.init_weights()

    def init_weights(self):
        initrange = 0.1
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.decoder.bias.data.zero_()
        self.decoder.weight.data.uniform_(-initrange, initrange)

    def forward(self, src, padding_mask):
        src = self.embedding(src) * math.sqrt(self.d_model)
        src = self.pos_encoder(src)
        output = self.transformer_encoder(src, src_key_padding_mask=padding_mask)
        keep = (~padding_mask).unsqueeze(-1)
        output = (output * keep).sum(dim=1) / keep.sum(dim=1)
        return self.decoder(output)


encoded = [[stoi[word] for word in text.split()] for text, _ in SENTENCES]
longest = max(len(e) for e in encoded)
src = torch.tensor([e + [0] * (longest - len(e)) for e in encoded])
labels = torch.tensor([label for _, label in SENTENCES])
padding_mask = src == stoi["<pad>"]

model = TransformerClassifier(len(itos), d_model=16, nhead=2, d_hid=32, nlayers=2, n_classes=2)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
# Warm-up, then down with the inverse square root
warmup = 5
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))
)

losses = []
model.train()
for step in range(20):
    logits = model(src, padding_mask)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
    if step % 5 == 0:
        lr = scheduler.get_last_lr()[0]
        print(f"| step {step:3d} | lr {lr:.5f} | loss {loss.item():5.2f}")
accuracy = (logits.argmax(-1) == labels).double().mean().item()
print("accuracy", accuracy)
assert accuracy == 1
