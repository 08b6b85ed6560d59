import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from innaprop.torch import INNAprop

# PEFT asks the model for what Transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_lora_moves_the_adapters_only(gpt2, counting, dtype):
    base = gpt2().to(dtype)
    before = copy.deepcopy(base)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True
    )
    model = get_peft_model(base, config)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}

    # All parameters, as most scripts give them: those that are frozen have no gradient.
    optimizer = INNAprop(model.parameters(), lr=2e-2, weight_decay=0.1)
    batch = {key: torch.stack([row[key] for row in counting]) for key in ("input_ids", "labels")}
    losses = []
    for _ in range(20):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]

    for name, p in model.named_parameters():
        assert torch.equal(p, start[name]) != (name in trainable), name
        assert (p in optimizer.state) == (name in trainable), name

    model.eval()
    with torch.no_grad():
        adapted = model(**batch).logits
        merged = model.merge_and_unload()
        tolerance = 1e-5 if dtype == torch.float32 else 5e-2
        torch.testing.assert_close(merged(**batch).logits, adapted, rtol=0, atol=tolerance)
    assert merged.state_dict().keys() == before.state_dict().keys()
