"""Lightning, which hands every step a closure."""

import lightning
import pytest
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from innaprop.torch import INNAprop

# Lightning flattens data loaders with what PyTorch has deprecated.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
)
EPOCHS = 6


class Regression(lightning.LightningModule):
    def __init__(self, model, **options):
        super().__init__()
        self.model = model
        self.options = options
        self.losses = []

    def training_step(self, batch, _):
        x, y = batch
        loss = mse_loss(self.model(x), y)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        optimizer = INNAprop(self.model.parameters(), lr=3e-2, **self.options)
        return [optimizer], [CosineAnnealingLR(optimizer, EPOCHS)]


def fit(module, data, folder, epochs=EPOCHS, ckpt_path=None, **options):
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, DataLoader(data, 8), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize(
    "options",
    [{}, {"fused": True}, {"alpha": lambda updates: 0.5 / (1 + updates)}],
    ids=["plain", "fused", "schedule"],
)
def test_the_loss_falls(regression, tmp_path, options):
    make_model, data = regression
    module = Regression(make_model(), **options)
    trainer = fit(module, data, tmp_path, gradient_clip_val=1.0, accumulate_grad_batches=2)
    assert sum(module.losses[-8:]) < 0.3 * sum(module.losses[:8])
    (optimizer,) = trainer.optimizers
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert {int(s["step"]) for s in optimizer.state.values()} == {4 * EPOCHS}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
@pytest.mark.parametrize(
    "options",
    [{}, {"fused": True}, {"alpha": lambda updates: 0.5 / (1 + updates)}],
    ids=["plain", "fused", "schedule"],
)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    regression, tmp_path, assert_same_weights, options, precision
):
    make_model, data = regression

    def module():
        model = make_model()
        model[2].p = 0.0  # Lightning does not save the random state.
        return Regression(model, **options)

    uninterrupted, stopped, resumed = module(), module(), module()
    fit(uninterrupted, data, tmp_path / "whole", precision=precision)
    trainer = fit(stopped, data, tmp_path / "stopped", EPOCHS // 2, precision=precision)
    fit(
        resumed,
        data,
        tmp_path / "stopped",
        ckpt_path=trainer.checkpoint_callback.best_model_path,
        precision=precision,
    )
    assert len(resumed.losses) == len(uninterrupted.losses) // 2
    assert_same_weights(resumed, uninterrupted)
