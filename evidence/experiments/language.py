"""GPT-2's shape on bytes from scratch, at three sizes; and LoRA from the weights of such a run."""

import copy
import json
import warnings
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from evidence.contenders import ADAMW, FOUR
from evidence.experiment import Experiment, Scale, plan_studies
from evidence.protocol import REPORT_SEEDS, TUNING_SEEDS, Study
from evidence.store import Config, Result, Results
from evidence.tasks import Writer
from evidence.training import train

_SIZES: dict[str, list[tuple[int, int, int]]] = {
    "smoke": [(16, 1, 2)],
    "cores": [(16, 2, 2), (48, 2, 4), (128, 2, 4)],
    "full": [(768, 12, 12)],
}
"""Width, depth, heads."""


def base(scale: Scale, width: int, depth: int, heads: int) -> Config:
    """Return the configuration of a model from scratch, the paper's schedule and clipping."""
    sizes: dict[str, Config] = {
        "smoke": {"context": 16, "batch": 4, "steps": 20, "held": 16},
        "cores": {"context": 64, "batch": 8, "steps": 300, "held": 128},
        "full": {
            "context": 512,
            "batch": 32,
            "steps": 250,
            "held": 128,
            "at_once": 32,
            "precision": "bf16",
        },
    }
    return {
        "experiment": "language",
        "data": "python",
        "model": "gpt",
        "shape": {"width": width, "depth": depth, "heads": heads},
        "schedule": "cosine",
        "floor": 0.1,
        "clip": 1.0,
        **sizes[scale.size],
        **scale.overrides,
    }


def _lora(scale: Scale) -> Config:
    scratch = base(scale, *_SIZES[scale.size][len(_SIZES[scale.size]) // 2])
    return {
        **scratch,
        "data": "kjv",
        "steps": scale.pick(10, 150),
        "rank": 4,
        **scale.overrides,
        "from": {
            **scratch,
            **ADAMW.options,
            "lr": 3e-3,
            "steps": scale.pick(10, 600),
            "seed": 0,
        },
    }


def studies(scale: Scale) -> list[Study]:
    """Return a comparison a size, and LoRA."""
    full = scale.size == "full"
    made = [
        Study(
            "GPT-2 small" if full else f"GPT, {width} wide",
            base(scale, width, depth, heads),
            [each.only_rates() for each in FOUR] if full else FOUR,
            first_rate=1e-4 if full else 1e-3,
            tuning=TUNING_SEEDS[:1] if full else TUNING_SEEDS,
            report=scale.seeds(REPORT_SEEDS, full=2),
            tried=3 if full else 4,
            refine=not full,
        )
        for width, depth, heads in _SIZES[scale.size]
    ]
    if not full:
        report = scale.seeds(REPORT_SEEDS)
        made.append(Study("LoRA", _lora(scale), FOUR, first_rate=1e-3, report=report))
    return made


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return plan_studies(studies(scale), done, short=scale.size != "full")


@lru_cache(maxsize=1)
def _scratch(config: str) -> nn.Module:

    whole = json.loads(config)
    task = Writer(whole)
    train(task, whole)
    return task.model


def with_lora(model: nn.Module, rank: int) -> nn.Module:
    """Return a copy of a model whose weights stand still, but for PEFT's additions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model

        wanted = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=["enter", "leave", "widen", "narrow"]
        )
        whole: Any = copy.deepcopy(model)
        adapted: nn.Module = get_peft_model(whole, wanted)
    return adapted


def run(config: Config) -> Result:
    """Train one model."""
    if "from" not in config:
        return train(Writer(config), config)

    scratch = _scratch(json.dumps(config["from"], sort_keys=True))
    torch.manual_seed(config["seed"])
    return train(Writer(config, with_lora(scratch, config["rank"])), config)


EXPERIMENT = Experiment(
    "language",
    "Language models",
    "Faster training of GPT-2 from scratch and with LoRA; how it scales is left open.",
    plan,
    run,
    studies,
)
