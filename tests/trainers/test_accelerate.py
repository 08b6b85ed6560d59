"""Accelerate: prepared, accumulating and clipping it is the loop written out by hand."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader

from innaprop.torch import INNAprop


@pytest.fixture(autouse=True)
def _own_precision():
    """Accelerate keeps the precision of a process's first Accelerator, or Trainer."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class Training:
    """A model and what trains it, prepared by an Accelerator or not."""

    def __init__(self, regression, accelerator=None, batch_size=16, **options):
        make_model, data = regression
        self.model = make_model()
        self.optimizer = INNAprop(self.model.parameters(), lr=1e-2, **options)
        self.loader = DataLoader(data, batch_size)
        self.scheduler = LinearLR(self.optimizer, 1.0, 0.1, 20)
        self.accelerator = accelerator
        if accelerator is not None:
            self.model, self.optimizer, self.loader, self.scheduler = accelerator.prepare(
                self.model, self.optimizer, self.loader, self.scheduler
            )

    def epoch(self, max_norm=1.0):
        total = 0.0
        for x, y in self.loader:
            with self.accelerator.accumulate(self.model):
                loss = mse_loss(self.model(x), y)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), max_norm)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
            total += loss.item()
        return total

    def epoch_by_hand(self, max_norm=1.0):
        for x, y in self.loader:
            mse_loss(self.model(x), y).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_loss_falls(regression, precision):
    training = Training(regression, Accelerator(cpu=True, mixed_precision=precision))
    losses = [training.epoch() for _ in range(10)]
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("fused", [False, True])
def test_it_is_the_loop_by_hand(regression, assert_same_weights, fused):
    training = Training(regression, Accelerator(cpu=True), fused=fused)
    for _ in range(3):
        training.epoch()
    by_hand = Training(regression, fused=fused)
    for _ in range(3):
        by_hand.epoch_by_hand()
    assert_same_weights(training.model, by_hand.model)


def test_accumulated_batches_are_one_large_batch(regression):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    training, large = Training(regression, accelerator, 8), Training(regression, None, 16)
    training.model.eval()  # Without dropout.
    large.model.eval()
    for _ in range(3):
        training.epoch()
        large.epoch_by_hand()
    assert {int(s["step"]) for s in training.optimizer.state.values()} == {12}
    assert training.scheduler.get_last_lr() == large.scheduler.get_last_lr()
    for p, q in zip(training.model.parameters(), large.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_a_saved_state_goes_on_as_if_never_stopped(
    regression, tmp_path, assert_same_weights, fused
):
    training = Training(regression, Accelerator(cpu=True), fused=fused)
    training.epoch()
    training.accelerator.save_state(str(tmp_path))
    training.epoch()

    resumed = Training(regression, Accelerator(cpu=True), fused=fused)
    resumed.accelerator.load_state(str(tmp_path))
    resumed.epoch()
    assert_same_weights(resumed.model, training.model)
    assert resumed.scheduler.get_last_lr() == training.scheduler.get_last_lr()
