"""Hugging Face's Trainer: it learns, and a resumed run ends in the uninterrupted run's bits.

So does the Trainer's own AdamW, which is held to the same test.
"""

import pytest
import torch
from transformers import Trainer, TrainingArguments, get_linear_schedule_with_warmup

from innaprop.torch import INNAprop

STEPS = 12


def arguments(folder, **options):
    return TrainingArguments(
        output_dir=folder,
        max_steps=STEPS,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **{"save_strategy": "no", **options},
    )


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def optimizers(model, **options):
    optimizer = INNAprop(model.parameters(), lr=1e-2, **options)
    return optimizer, get_linear_schedule_with_warmup(optimizer, 2, STEPS)


@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=["plain", "fused"])
def test_the_loss_falls(gpt2, counting, tmp_path, options):
    model = gpt2()
    trainer = Trainer(
        model,
        arguments(tmp_path),
        train_dataset=counting,
        optimizers=optimizers(model, **options),
    )
    trainer.train()
    assert len(losses(trainer)) == STEPS
    assert losses(trainer)[-1] < 0.7 * losses(trainer)[0]


def test_the_trainer_makes_it_with_its_own_groups_and_schedule(gpt2, counting, tmp_path):
    trainer = Trainer(
        gpt2(),
        arguments(tmp_path, weight_decay=0.1, gradient_accumulation_steps=2),
        train_dataset=counting,
        optimizer_cls_and_kwargs=(INNAprop, {"lr": 1e-2, "alpha": 2.0, "beta": 2.0}),
    )
    trainer.train()
    assert losses(trainer)[-1] < 0.7 * losses(trainer)[0]
    groups = trainer.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [group["lr"] for group in groups] == [0.0, 0.0]
    assert all(s["step"] == STEPS for s in trainer.optimizer.state.values())


def adamw(model):
    return None, None  # The Trainer makes its own.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "make",
    [optimizers, lambda model: optimizers(model, fused=True), adamw],
    ids=["plain", "fused", "adamw"],
)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    gpt2, counting, tmp_path, assert_same_weights, make, dtype
):
    model, resumed = gpt2().to(dtype), gpt2().to(dtype)
    saving = arguments(tmp_path / "first", save_strategy="steps", save_steps=STEPS // 2)
    Trainer(model, saving, train_dataset=counting, optimizers=make(model)).train()

    trainer = Trainer(
        resumed, arguments(tmp_path / "second"), train_dataset=counting, optimizers=make(resumed)
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "first" / f"checkpoint-{STEPS // 2}"))
    assert len(losses(trainer)) == STEPS
    assert_same_weights(resumed, model)
