"""Image classifiers, as in the paper's first experiments; one of them in Keras as well."""

from typing import Any

from evidence.contenders import ACCURATE, FAST, FOUR
from evidence.experiment import Experiment, Scale, plan_studies, undone
from evidence.models.convolutional import RESNET18, VGG11
from evidence.protocol import REPORT_SEEDS, TUNING_SEEDS, Study, reported
from evidence.store import Config, Result, Results
from evidence.tasks import Classifier
from evidence.training import train

PUBLISHED = {
    "VGG11": {"AdamW": 90.80, "(0.1, 0.9)": 89.71, "(1, 1)": 90.60, "(2, 2)": 91.00},
    "ResNet18": {"AdamW": 91.24, "(0.1, 0.9)": 90.16, "(1, 1)": 91.19, "(2, 2)": 91.59},
}
"""The authors' test accuracy on CIFAR-10 in percent, means of five runs, spread 0.1 to 0.3."""

_VGG: dict[str, dict[str, Any]] = {
    "smoke": {"widths": [4, 0, 8, 0]},
    "cores": {"widths": [12, 0, 24, 0, 48]},
    "full": {"widths": list(VGG11)},
}
_RESNET: dict[str, dict[str, Any]] = {
    "smoke": {"widths": [4, 8], "blocks": 1},
    "cores": {"widths": [8, 16], "blocks": 1},
    "full": {"widths": list(RESNET18), "blocks": 2},
}
ONCE: dict[str, dict[str, Any]] = {
    "densenet": {"growth": 6, "blocks": [3, 3]},
    "vit": {"patch": 2, "width": 32, "depth": 2},
}
"""What is run on two seeds only, with the options that the VGG chose."""


def _base(scale: Scale) -> Config:
    sizes: dict[str, Config] = {
        "smoke": {"side": 14, "train": 500, "held": 200, "batch": 16, "steps": 20},
        "cores": {"side": 14, "train": 20_000, "held": 2000, "batch": 64, "steps": 600},
        "full": {
            "side": 32,
            "train": 55_000,
            "batch": 256,
            "steps": 1075,
            "augment": True,
            "precision": "bf16",
        },
    }
    return {
        "experiment": "images",
        "data": "fashion-mnist",
        "schedule": "cosine",
        **sizes[scale.size],
        **scale.overrides,
    }


def studies(scale: Scale) -> list[Study]:
    """Return a VGG and a ResNet."""
    full = scale.size == "full"
    models = {"VGG": ("vgg", _VGG), "ResNet": ("resnet", _RESNET)}
    made = []
    for name, (model, shapes) in models.items():
        base = {**_base(scale), "model": model, "shape": shapes[scale.size]}
        if full and model == "resnet":
            base["steps"] = base["steps"] * 3 // 5
        made.append(
            Study(
                {"VGG": "VGG11", "ResNet": "ResNet18"}[name] if full else name,
                base,
                [each.only_rates() for each in FOUR] if full else FOUR,
                "error",
                tuning=TUNING_SEEDS[:1] if full else TUNING_SEEDS,
                report=scale.seeds(REPORT_SEEDS),
                tried=3 if full else 4,
                refine=not full,
            )
        )
    return made


def extras(scale: Scale, done: Results) -> list[Config]:
    """Return the runs beside the studies: other networks once, and the VGG in Keras."""
    if scale.size == "full":
        return []
    vgg = studies(scale)[0]
    runs: list[Config] = []
    for contender in vgg.contenders:
        found = reported(vgg, contender, done)
        if found is None:
            continue
        for model, shape in ONCE.items():
            runs += [
                {**found.config, "model": model, "shape": shape, "seed": seed, "test": True}
                for seed in REPORT_SEEDS[:2]
            ]
        if contender in (FAST, ACCURATE):
            runs += [
                {**found.config, "framework": "keras", "seed": seed, "test": True}
                for seed in scale.seeds(REPORT_SEEDS[:4])
            ]
    return runs


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    runs = plan_studies(studies(scale), done, short=scale.size != "full")
    return runs + undone(extras(scale, done), done)


def run(config: Config) -> Result:
    """Train one classifier."""
    if config.get("framework") == "keras":
        from evidence.keras_training import train_in_keras

        return train_in_keras(config)
    return train(Classifier(config), config)


EXPERIMENT = Experiment(
    "images",
    "Images",
    "AdamW's accuracy or more at the end with (2, 2), a faster start with (0.1, 0.9).",
    plan,
    run,
    studies,
)
