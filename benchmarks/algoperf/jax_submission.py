"""INNAprop as a submission to AlgoPerf, in JAX: warm-up, cosine decay, no decay of biases.

    python submission_runner.py --framework=jax --tuning_ruleset=external \\
        --submission_path=jax_submission.py --tuning_search_space=tuning_search_space.json ...
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from algoperf import spec
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from innaprop.optax import innaprop

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


def decays(params):
    """Biases and the scales of norms have one axis, and do not decay."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    warmup = max(int(hyperparameters.warmup_factor * workload.step_hint), 1)
    learning_rate = optax.warmup_cosine_decay_schedule(
        0.0, hyperparameters.learning_rate, warmup, max(workload.step_hint, warmup + 1)
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(hyperparameters.grad_clip),
        innaprop(
            learning_rate,
            alpha=hyperparameters.alpha,
            beta=hyperparameters.beta,
            sigma=1 - hyperparameters.one_minus_sigma,
            weight_decay=hyperparameters.weight_decay,
            mask=decays,
        ),
    )
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape_tuple), workload.param_shapes)
    return optimizer.init(zeros), optimizer.update


@functools.partial(jax.jit, static_argnums=(0, 1, 7, 8), donate_argnums=(2, 3, 4))
def _train_step(workload, update, model_state, state, params, batch, rng, smoothing, dropout):
    def loss_of(params):
        logits, new_model_state = workload.model_fn(
            params,
            batch,
            model_state,
            spec.ForwardPassMode.TRAIN,
            rng,
            update_batch_norm=True,
            dropout_rate=dropout,
        )
        losses = workload.loss_fn(
            label_batch=batch["targets"],
            logits_batch=logits,
            mask_batch=batch.get("weights"),
            label_smoothing=smoothing,
        )
        return losses["summed"] / losses["n_valid_examples"], new_model_state

    gradients, new_model_state = jax.grad(loss_of, has_aux=True)(params)
    updates, state = update(gradients, state, params)
    return state, optax.apply_updates(params, updates), new_model_state


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
    # The batch over all devices; what else there is on each of them.
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["batch"], []))
    state, update = optimizer_state
    held = jax.device_put((model_state, state, current_param_container), whole)
    state, params, model_state = _train_step(
        workload,
        update,
        *held,
        jax.device_put(batch, rows),
        jax.device_put(rng, whole),
        hyperparameters.label_smoothing,
        hyperparameters.dropout_rate,
    )
    return (state, update), params, model_state


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
