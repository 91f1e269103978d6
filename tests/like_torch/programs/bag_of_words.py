"""Text classification with nn.EmbeddingBag and offsets, as in PyTorch's text tutorial."""

import torch
from torch import nn
from torch.utils.data import DataLoader

TEXTS = [
    (1, "the team won the match in the last minute"),
    (1, "the striker scored two goals"),
    (1, "a fast race and a new record on the track"),
    (1, "the coach of the team was happy with the goals"),
    (2, "shares fell as the bank raised rates"),
    (2, "the market rose and shares of the bank gained"),
    (2, "profit at the company fell in the last quarter"),
    (2, "investors sold shares after the company report"),
    (3, "the new phone has a fast chip and two cameras"),
    (3, "researchers report a fast new computer chip"),
    (3, "the software update has a new record of errors"),
    (3, "a computer won the match with new software"),
]
words = sorted({word for _, text in TEXTS for word in text.split()})
vocab = {word: index for index, word in enumerate(["<unk>", *words])}
text_pipeline = lambda x: [vocab.get(token, 0) for token in x.split()]  # noqa: E731
label_pipeline = lambda x: int(x) - 1  # noqa: E731

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def collate_batch(batch):
    label_list, text_list, offsets = [], [], [0]
    for _label, _text in batch:
        label_list.append(label_pipeline(_label))
        processed_text = torch.tensor(text_pipeline(_text), dtype=torch.int64)
        text_list.append(processed_text)
        offsets.append(processed_text.size(0))
    label_list = torch.tensor(label_list, dtype=torch.int64)
    offsets = torch.tensor(offsets[:-1]).cumsum(dim=0)
    text_list = torch.cat(text_list)
    return label_list.to(device), text_list.to(device), offsets.to(device)


dataloader = DataLoader(TEXTS, batch_size=4, shuffle=True, collate_fn=collate_batch)


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super(TextClassificationModel, self).__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, sparse=False)
        self.fc = nn.Linear(embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text, offsets):
        embedded = self.embedding(text, offsets)
        return self.fc(embedded)


num_class = len({label for (label, text) in TEXTS})
model = TextClassificationModel(len(vocab), 8, num_class).to(device)
criterion = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=5)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1.0, gamma=0.7)

losses = []
for epoch in range(1, 11):
    model.train()
    total_acc, total_count = 0, 0
    for idx, (label, text, offsets) in enumerate(dataloader):
        optimizer.zero_grad()
        predicted_label = model(text, offsets)
        loss = criterion(predicted_label, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        total_acc += (predicted_label.argmax(1) == label).sum().item()
        total_count += label.size(0)
        losses.append(loss.item())
    scheduler.step()
    print("| epoch {:3d} | accuracy {:8.3f}".format(epoch, total_acc / total_count))


def predict(text, text_pipeline):
    with torch.no_grad():
        text = torch.tensor(text_pipeline(text))
        output = model(text, torch.tensor([0]))
        return output.argmax(1).item() + 1


assert predict("shares of the company rose", text_pipeline) == 2
