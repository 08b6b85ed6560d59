"""Runs in which nothing is wrong, those of the evidence pages in small among them."""

import math

import pytest
import torch
from torch import nn

from innaprop.diagnostics import DiagnosticsWarning
from innaprop.torch import Diagnostics, INNAprop


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(12, 8), nn.GRU(8, 16, batch_first=True)
        self.out = nn.Linear(16, 12)

    def forward(self, tokens):
        return self.out(self.gru(self.embedding(tokens))[0]).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(500, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 12)

    def forward(self, tokens):
        mask = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
        return self.out(self.layer(self.embedding(tokens), mask)).transpose(1, 2)


def mlp(inputs=16, outputs=10):
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def line():
    return mlp(16, 1)


def classes(n, seed):
    """Noisy points about ten centres, as digits are."""
    centres = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(10, (n,), generator=generator)
    return centres[y] + 0.8 * torch.randn(n, 16, generator=generator), y


def noisy_line(n, seed):
    """A line under nearly as much noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 16, generator=generator)
    return x, x.sum(1, keepdim=True) / 4 + 0.75 * torch.randn(n, 1, generator=generator)


def text(n, seed):
    """Sequences that count, with mistakes."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(12, (n, 1), generator=generator)
    tokens = (start + torch.arange(9)) % 12
    wrong = torch.rand(n, 9, generator=generator) < 0.1
    tokens = torch.where(wrong, torch.randint(12, (n, 9), generator=generator), tokens)
    return tokens[:, :-1], tokens[:, 1:]


def constant(share):
    return 1.0


def cosine(share):
    return 0.5 * (1 + math.cos(math.pi * share))


def warmup(share):
    return min(1.0, 0.02 + 2 * share) * (1 - share)


FAST, BEST, PLAIN = (0.1, 0.9), (2.0, 2.0), (1.0, 1.0)
ENTROPY, SQUARED = nn.functional.cross_entropy, nn.functional.mse_loss
RUNS = {
    "MLP, fast, cosine": (mlp, classes, ENTROPY, FAST, 1e-2, cosine, 32, 200, {}),
    "MLP, accurate, cosine": (mlp, classes, ENTROPY, BEST, 3e-3, cosine, 32, 200, {}),
    "MLP, (1, 1), warmup": (mlp, classes, ENTROPY, PLAIN, 5e-3, warmup, 32, 200, {}),
    "MLP, full batch, at the edge of stability": (
        mlp, classes, ENTROPY, BEST, 1e-2, constant, 128, 200, {},
    ),
    "MLP, learnt by heart": (mlp, classes, ENTROPY, BEST, 1e-2, constant, 16, 300, {}),
    "noisy regression, fast": (line, noisy_line, SQUARED, FAST, 1e-3, constant, 16, 300, {}),
    "noisy regression, one at a time": (
        line, noisy_line, SQUARED, BEST, 3e-4, constant, 1, 300, {},
    ),
    "GRU, (1, 1)": (Recurrent, text, ENTROPY, PLAIN, 1e-2, cosine, 16, 100, {"sigma": 0.95}),
    "language model, fast": (Attention, text, ENTROPY, FAST, 3e-3, warmup, 16, 100, {}),
    "language model, accurate, decay": (
        Attention, text, ENTROPY, BEST, 1e-3, cosine, 16, 100, {"weight_decay": 0.1},
    ),
    "bfloat16, spared momentum": (
        mlp, classes, ENTROPY, FAST, 3e-3, cosine, 32, 150,
        {"decay_momentum": False, "weight_decay": 0.1},
    ),
    "state of 16 bits": (mlp, classes, ENTROPY, FAST, 3e-3, warmup, 32, 150, {"state_bits": 16}),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_named(run):
    model, data, loss_of, (alpha, beta), lr, schedule, batch, steps, others = RUNS[run]
    torch.manual_seed(0)
    model = model()
    x, y = data(128, 1)
    held_out = data(128, 2)
    if run.startswith("bfloat16"):
        model, x, held_out = model.bfloat16(), x.bfloat16(), (held_out[0].bfloat16(), held_out[1])
    optimizer = INNAprop(model.parameters(), lr, alpha, beta, **others)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: schedule(k / steps))
    diagnostics = Diagnostics(optimizer, every=10)
    try:
        for k in range(steps):
            rows = torch.randint(128, (batch,)) if batch < 128 else slice(None)
            optimizer.zero_grad()
            loss = loss_of(model(x[rows]), y[rows])
            loss.backward()
            diagnostics.loss(loss)
            if k % 10 == 0:
                with torch.no_grad():
                    diagnostics.loss(validation=loss_of(model(held_out[0]), held_out[1]))
            optimizer.step()
            scheduler.step()
    except DiagnosticsWarning as error:
        raise AssertionError(error) from error
    losses = [record.validation_loss for record in diagnostics.records]
    assert min(losses) < 0.98 * losses[0]  # It is a run that learns.
    assert diagnostics.findings == []
