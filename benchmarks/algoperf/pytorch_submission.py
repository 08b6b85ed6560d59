"""INNAprop as a submission to AlgoPerf, in PyTorch: warm-up, cosine decay, no decay of biases.

    python submission_runner.py --framework=pytorch --tuning_ruleset=external \\
        --submission_path=pytorch_submission.py --tuning_search_space=tuning_search_space.json ...
"""

import torch
import torch.distributed.nn as dist_nn
from algoperf import spec
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from innaprop.torch import INNAprop, param_groups

BATCH_SIZES = {
    "criteo1tb": 262_144,
    "fastmri": 32,
    "imagenet_resnet": 1024,
    "imagenet_vit": 1024,
    "librispeech_conformer": 256,
    "librispeech_deepspeech": 256,
    "mnist": 16,
    "ogbg": 512,
    "wmt": 128,
}


def get_batch_size(workload_name):
    if workload_name not in BATCH_SIZES:
        raise ValueError(
            f"workload_name must be one of {', '.join(BATCH_SIZES)}, got {workload_name!r}"
        )
    return BATCH_SIZES[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    optimizer = INNAprop(
        param_groups(model_params, weight_decay=hyperparameters.weight_decay),
        lr=hyperparameters.learning_rate,
        alpha=hyperparameters.alpha,
        beta=hyperparameters.beta,
        sigma=1 - hyperparameters.one_minus_sigma,
    )
    warmup = max(int(hyperparameters.warmup_factor * workload.step_hint), 1)
    scheduler = SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, 1e-6, total_iters=warmup),
            CosineAnnealingLR(optimizer, max(workload.step_hint - warmup, 1)),
        ],
        [warmup],
    )
    return {"optimizer": optimizer, "scheduler": scheduler}


def update_params(
    workload,
    current_param_container,
    current_params_types,
    model_state,
    hyperparameters,
    batch,
    loss_type,
    optimizer_state,
    eval_results,
    global_step,
    rng,
    train_state=None,
):
    model, optimizer = current_param_container, optimizer_state["optimizer"]
    model.train()
    optimizer.zero_grad()
    logits, model_state = workload.model_fn(
        params=model,
        augmented_and_preprocessed_input_batch=batch,
        model_state=model_state,
        mode=spec.ForwardPassMode.TRAIN,
        rng=rng,
        update_batch_norm=True,
        dropout_rate=hyperparameters.dropout_rate,
    )
    losses = workload.loss_fn(
        label_batch=batch["targets"],
        logits_batch=logits,
        mask_batch=batch.get("weights"),
        label_smoothing=hyperparameters.label_smoothing,
    )
    total, count = losses["summed"], losses["n_valid_examples"]
    if torch.distributed.is_initialized():
        # Differentiated: DDP takes the mean of gradients, of which each is that of the whole loss.
        total, count = dist_nn.all_reduce(total), dist_nn.all_reduce(count)
    (total / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), hyperparameters.grad_clip)
    optimizer.step()
    optimizer_state["scheduler"].step()
    return optimizer_state, model, model_state


def prepare_for_eval(
    workload,
    current_param_container,
    current_params_types,
    model_state,
    hyperparameters,
    loss_type,
    optimizer_state,
    eval_results,
    global_step,
    rng,
):
    return optimizer_state, current_param_container, model_state


def data_selection(
    workload,
    input_queue,
    optimizer_state,
    current_param_container,
    model_state,
    hyperparameters,
    global_step,
    rng,
):
    return next(input_queue)
