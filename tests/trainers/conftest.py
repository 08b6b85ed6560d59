import os

import pytest

# Read when a trainer is imported, which the test files do after this.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Models this small are slowed down by threads, on a busy machine many times over."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def gpt2():
    """A maker of one and the same small GPT-2, with dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def make():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=16,
            n_positions=8,
            n_embd=32,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
        return GPT2LMHeadModel(config)

    return make


@pytest.fixture
def counting():
    """Token sequences that count up from somewhere, which can be learnt."""
    tokens = (torch.arange(16)[:, None] + torch.arange(8)) % 16
    return [{"input_ids": row, "labels": row} for row in tokens.repeat(2, 1)]


@pytest.fixture
def regression():
    """A maker of a model, and data that it can learn something of."""

    def make_model():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1)
        )

    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    return make_model, torch.utils.data.TensorDataset(x, x[:, :2].sum(1, keepdim=True))


@pytest.fixture
def assert_same_weights():
    def check(model, other):
        weights, others = model.state_dict(), other.state_dict()
        assert weights.keys() == others.keys()
        for name, value in weights.items():
            assert torch.equal(value, others[name]), name

    return check
