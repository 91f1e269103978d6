"""Text generation with an LSTM: the state carried from batch to batch and detached, sampling."""

import torch
import torch.nn as nn
from torch.nn.utils import clip_grad_norm_

corpus = "to be or not to be that is the question whether tis nobler in the mind to suffer " * 6
vocab = sorted(set(corpus))
stoi = {c: i for i, c in enumerate(vocab)}
ids = torch.tensor([stoi[c] for c in corpus])

# Hyper-parameters
embed_size, hidden_size, num_layers = 8, 16, 2
batch_size, seq_length, num_epochs = 4, 20, 6
num_batches = ids.size(0) // batch_size
ids = ids[: num_batches * batch_size].view(batch_size, -1)
vocab_size = len(vocab)


class RNNLM(nn.Module):
    def __init__(self, vocab_size, embed_size, hidden_size, num_layers):
        super(RNNLM, self).__init__()
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size, num_layers, batch_first=True)
        self.linear = nn.Linear(hidden_size, vocab_size)

    def forward(self, x, h):
        # Embed word ids to vectors
        x = self.embed(x)
        # Forward propagate LSTM
        out, (h, c) = self.lstm(x, h)
        # Reshape output to (batch_size*sequence_length, hidden_size)
        out = out.reshape(out.size(0) * out.size(1), out.size(2))
        # Decode hidden states of all time steps
        out = self.linear(out)
        return out, (h, c)


model = RNNLM(vocab_size, embed_size, hidden_size, num_layers)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


# Truncated backpropagation
def detach(states):
    return [state.detach() for state in states]


losses = []
for epoch in range(num_epochs):
    # Set initial hidden and cell states
    states = (
        torch.zeros(num_layers, batch_size, hidden_size),
        torch.zeros(num_layers, batch_size, hidden_size),
    )
    for i in range(0, ids.size(1) - seq_length, seq_length):
        # Get mini-batch inputs and targets
        inputs = ids[:, i : i + seq_length]
        targets = ids[:, (i + 1) : (i + 1) + seq_length]

        # Forward pass
        states = detach(states)
        outputs, states = model(inputs, states)
        loss = criterion(outputs, targets.reshape(-1))

        # Backward and optimize
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    print(f"Epoch [{epoch + 1}/{num_epochs}], Loss: {losses[-1]:.4f}")

# Test the model
with torch.no_grad():
    state = (torch.zeros(num_layers, 1, hidden_size), torch.zeros(num_layers, 1, hidden_size))
    input = torch.randint(0, vocab_size, (1, 1))
    sampled = []
    for _ in range(30):
        output, state = model(input, state)
        prob = torch.softmax(output / 0.8, dim=-1)
        word_id = torch.multinomial(prob, num_samples=1).item()
        input = torch.tensor([[word_id]])
        sampled.append(vocab[word_id])
print("".join(sampled))
losses.append(float(sum(stoi[c] for c in sampled)))
