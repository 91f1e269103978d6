"""Sequence to sequence: an encoder and a decoder LSTM, teacher forcing, then greedy decoding."""

import random

import torch
import torch.nn as nn
import torch.optim as optim

random.seed(0)
PAD, SOS, EOS = 0, 1, 2
VOCAB = 9  # three signs and six letters
MAX_LEN = 5


def make_pair():
    """A word, and the same word backwards."""
    word = [random.randint(3, VOCAB - 1) for _ in range(random.randint(2, 4))]
    source = word + [EOS]
    target = [SOS] + word[::-1] + [EOS]
    source += [PAD] * (MAX_LEN - len(source))
    target += [PAD] * (MAX_LEN + 1 - len(target))
    return source, target


class Encoder(nn.Module):
    def __init__(self, input_dim, emb_dim, hid_dim):
        super().__init__()
        self.embedding = nn.Embedding(input_dim, emb_dim, padding_idx=PAD)
        self.rnn = nn.LSTM(emb_dim, hid_dim)

    def forward(self, src):
        embedded = self.embedding(src)  # [src len, batch size, emb dim]
        outputs, (hidden, cell) = self.rnn(embedded)
        return hidden, cell


class Decoder(nn.Module):
    def __init__(self, output_dim, emb_dim, hid_dim):
        super().__init__()
        self.output_dim = output_dim
        self.embedding = nn.Embedding(output_dim, emb_dim)
        self.rnn = nn.LSTM(emb_dim, hid_dim)
        self.fc_out = nn.Linear(hid_dim, output_dim)

    def forward(self, input, hidden, cell):
        input = input.unsqueeze(0)
        embedded = self.embedding(input)
        output, (hidden, cell) = self.rnn(embedded, (hidden, cell))
        prediction = self.fc_out(output.squeeze(0))
        return prediction, hidden, cell


class Seq2Seq(nn.Module):
    def __init__(self, encoder, decoder, device):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.device = device

    def forward(self, src, trg, teacher_forcing_ratio=0.5):
        batch_size = trg.shape[1]
        trg_len = trg.shape[0]
        outputs = []
        hidden, cell = self.encoder(src)
        input = trg[0, :]
        for t in range(1, trg_len):
            output, hidden, cell = self.decoder(input, hidden, cell)
            outputs.append(output)
            teacher_force = random.random() < teacher_forcing_ratio
            top1 = output.argmax(1)
            input = trg[t] if teacher_force else top1
        assert outputs[0].shape == (batch_size, self.decoder.output_dim)
        return torch.stack(outputs)


def init_weights(m):
    for name, param in m.named_parameters():
        nn.init.uniform_(param.data, -0.3, 0.3)


device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = Seq2Seq(Encoder(VOCAB, 8, 16), Decoder(VOCAB, 8, 16), device).to(device)
model.apply(init_weights)
optimizer = optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss(ignore_index=PAD)

losses = []
model.train()
for step in range(20):
    pairs = [make_pair() for _ in range(16)]
    src = torch.tensor([source for source, _ in pairs]).t().to(device)
    trg = torch.tensor([target for _, target in pairs]).T.to(device)
    optimizer.zero_grad()
    output = model(src, trg)
    output_dim = output.shape[-1]
    loss = criterion(output.view(-1, output_dim), trg[1:].reshape(-1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1)
    optimizer.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")

model.eval()
with torch.no_grad():
    src = torch.tensor([[4, 6, 3, EOS, PAD]]).t()
    trg = torch.full((MAX_LEN + 1, 1), SOS)
    output = model(src, trg, 0)  # turn off teacher forcing
    print("decoded:", output.argmax(2).squeeze(1).tolist())
    losses.extend(output.softmax(dim=-1).max(dim=-1)[0].flatten().tolist())
