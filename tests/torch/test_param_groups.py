"""Parameter groups: what decays, each layer's rate, names; every parameter in one group."""

import pytest
import torch
from torch import nn

from innaprop.torch import INNAprop, param_groups


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)


class Net(nn.Module):
    """Embeddings, blocks, a norm, and a head that is tied to the embeddings."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.position = nn.Parameter(torch.zeros(5, 4))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.attention = nn.MultiheadAttention(4, 1)
        self.last_norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embed.weight
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


def names(groups):
    return {group["name"]: [name for name, _ in group["params"]] for group in groups}


def test_biases_and_norms_do_not_decay():
    groups = param_groups(Net(), weight_decay=0.1)
    assert names(groups) == {
        "decay": [
            "position",
            "embed.weight",
            *(f"blocks.{i}.mix.weight" for i in range(3)),
            "attention.in_proj_weight",
            "attention.out_proj.weight",
        ],
        "no decay": [
            *(
                f"blocks.{i}.{x}"
                for i in range(3)
                for x in ("mix.bias", "norm.weight", "norm.bias")
            ),
            "attention.in_proj_bias",
            "attention.out_proj.bias",
            "last_norm.weight",
            "last_norm.bias",
            "head.bias",
        ],
    }
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert not any("lr" in group for group in groups)


def test_embeddings_and_names_by_choice():
    spared = names(param_groups(Net(), no_decay=("embedding", "*.mix.weight", "position")))
    assert spared["no decay"] == [
        "position",
        "embed.weight",
        *(f"blocks.{i}.mix.weight" for i in range(3)),
    ]
    assert list(names(param_groups(Net(), no_decay=()))) == ["decay"]


def test_a_tied_weight_is_in_one_group_and_spared_if_one_use_of_it_is():
    net = Net()
    groups = param_groups(net, no_decay=("head.weight",))
    assert names(groups)["no decay"] == ["embed.weight"]
    held = [p for group in groups for _, p in group["params"]]
    trained = {p for p in net.parameters() if p.requires_grad}
    assert len(held) == len(trained)
    assert set(held) == trained


def test_layers_learn_at_rates_of_their_own():
    groups = param_groups(Net(), lr=1.0, layer_decay=0.5)
    rates = {name: group["lr"] for group in groups for name, _ in group["params"]}
    assert rates["embed.weight"] == rates["position"] == 0.5**4
    assert [rates[f"blocks.{i}.mix.weight"] for i in range(3)] == [0.5**3, 0.5**2, 0.5]
    assert rates["last_norm.weight"] == rates["head.bias"] == 1.0
    assert len({group["name"] for group in groups}) == len(groups)


def test_the_layer_of_a_name_may_be_given():
    groups = param_groups(Net(), lr=1.0, layer_decay=0.1, depth=lambda name: "head" in name)
    rates = {name: group["lr"] for group in groups for name, _ in group["params"]}
    assert {name for name, rate in rates.items() if rate == 1.0} == {"head.bias"}
    assert rates["blocks.0.mix.weight"] == 0.1


def test_the_rates_are_those_of_the_update():
    """By a model that is stepped with each rate by itself."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    alone = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    alone.load_state_dict(net.state_dict())
    optimizer = INNAprop(param_groups(net, lr=1e-2, layer_decay=0.5, weight_decay=0.1))
    own = [
        INNAprop([p], lr=1e-2 * factor, weight_decay=decay)
        for p, factor, decay in zip(
            alone.parameters(), (0.5, 0.5, 1, 1), (0.1, 0, 0.1, 0), strict=True
        )
    ]
    for _ in range(5):
        for model, optimizers in ((net, [optimizer]), (alone, own)):
            model.zero_grad()
            model(torch.ones(4, 2)).square().sum().backward()
            for each in optimizers:
                each.step()
    torch.testing.assert_close(list(net.parameters()), list(alone.parameters()), rtol=0, atol=0)
    saved = [n for g in optimizer.state_dict()["param_groups"] for n in g["param_names"]]
    assert sorted(saved) == ["0.bias", "0.weight", "1.bias", "1.weight"]


def test_other_optimizers_take_them():
    torch.optim.AdamW(param_groups(Net(), lr=1e-3, layer_decay=0.9))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"no_decay": "bias"}, TypeError, "no_decay must be a collection of strings, got 'bias'"),
        ({"no_decay": ("biases",)}, ValueError, "'biases', which no name matches"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be >= 0, got -1"),
        ({"lr": -1}, ValueError, "lr must be >= 0, got -1"),
        ({"layer_decay": 0.5}, TypeError, "lr must be a number where layer_decay is given"),
        ({"lr": 1, "layer_decay": 0}, ValueError, r"layer_decay must be in \(0, 1\], got 0"),
    ],
    ids=str,
)
def test_misuse_is_told(options, error, message):
    with pytest.raises(error, match=message):
        param_groups(Net(), **options)


def test_a_model_without_blocks_needs_a_depth():
    with pytest.raises(ValueError, match="depth must be given for a model without"):
        param_groups(nn.Linear(2, 2), lr=1.0, layer_decay=0.5)
