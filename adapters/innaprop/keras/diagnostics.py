"""Diagnostics of a run in ``fit``: a callback that measures every N-th batch.

Measured batches run another train function, compiled separately, whose step also returns the
measurements. All other batches run ``fit``'s own train function, as if there were no callback.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import keras
from keras import ops

from innaprop import diagnostics
from innaprop.diagnostics.measure import SUMS, Operations, sums
from innaprop.keras import options
from innaprop.keras.gradients import SIXTEEN_BITS, dense
from innaprop.keras.optimizer import INNAprop
from innaprop.keras.slots import moments

_KEY = "innaprop"
"""Key of the measurements in the logs of a measured step; removed before Keras sees them."""
_TO_FLOAT32 = {"jax": "functional", "tensorflow": "variables"}
"""For backends compiled by XLA: the form with a cast to float32 that XLA does not remove."""
_OPERATIONS = Operations(
    sqrt=ops.sqrt,
    finite=lambda x: ops.cast(ops.isfinite(x), x.dtype),
    less=lambda a, b: ops.cast(ops.less(a, b), a.dtype),
    equal=lambda a, b: ops.cast(ops.equal(a, b), a.dtype),
    total=ops.sum,
    dot=lambda a, b: ops.sum(a * b),
)


class Diagnostics(keras.callbacks.Callback, diagnostics.Diagnostics):
    """A callback that records what the optimizer does, on every backend, compiled or not.

    The training loss of a record is the mean of the epoch so far, as Keras reports it; the
    validation loss is that of the last epoch that had one. With ``steps_per_execution`` the last of
    the steps that are executed together is recorded, with ``gradient_accumulation_steps`` a step
    that updates. Steps that a ``LossScaleOptimizer`` skips are not recorded.

    Args:
        every: Batches from one record to the next, >= 1; the first is always recorded. Default
            100.
        write: Receivers of every record: callables such as ``wandb.log`` or
            ``innaprop.diagnostics.CSV(path)``, called with a flat dict of numbers and ``step=``.
            Default none.
        warn: Whether to warn of each signature when it first appears. Default True.
        groups: Takes a variable and returns the name of its group. Default None: one group, "all".

    Raises:
        TypeError: every is not an integer, warn is not a bool, or write or groups is not callable.
            In ``fit``: the model's optimizer is not an INNAprop.
        ValueError: every is smaller than 1.
        RuntimeError: In ``fit``: there are several replicas of ``tf.distribute``, none of which
            has the whole gradient.

    Example:
        >>> import keras, numpy
        >>> from innaprop.keras import Diagnostics, INNAprop
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=INNAprop(learning_rate=1e-3), loss="mse")
        >>> x = numpy.ones((96, 2))
        >>> diagnostics = Diagnostics(every=2)
        >>> _ = model.fit(x, x[:, :1], verbose=0, callbacks=[diagnostics])
        >>> [record.step for record in diagnostics.records]
        [1, 3]
    """

    def __init__(
        self,
        every: int = 100,
        write: Iterable[Callable[..., Any]] = (),
        warn: bool = True,
        groups: Callable[[Any], str] | None = None,
    ) -> None:
        keras.callbacks.Callback.__init__(self)
        diagnostics.Diagnostics.__init__(self, every, write, warn)
        if groups is not None and not callable(groups):
            raise TypeError(f"groups must be a callable or None, got {groups!r}")
        self._groups = groups
        self._trained: Any = None
        self._measuring: Callable[..., Any] | None = None
        self._measured: Any = None
        self._seen = self._next = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Create the train function that measures; Keras calls this.

        Args:
            logs: Not used.
        """
        model = self.model
        own = _own(model.optimizer)
        replicas = getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1)
        if replicas > 1:
            raise RuntimeError(f"Diagnostics needs the whole gradient, got {replicas} replicas")
        self._trained = model
        self._seen = int(own.iterations)
        self._next = self._following(self._seen)
        self._measuring = self._measuring_function(model)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Measure this batch if it is due; Keras calls this.

        Args:
            batch: Number of the batch in its epoch.
            logs: Not used.
        """
        self._first = batch
        last = self._seen + self._trained.steps_per_execution
        if last < self._next:
            return
        accumulated = _own(self._trained.optimizer).gradient_accumulation_steps
        if accumulated and last % accumulated:
            return
        plain = self._trained.train_function

        def measuring(*args: Any) -> Any:
            self._trained.train_function = plain
            assert self._measuring is not None
            result = self._measuring(*args)
            of_step = result[0] if isinstance(result, tuple) else result
            self._measured = of_step.pop(_KEY)
            return result

        self._trained.train_function = measuring

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record the measurements of this batch; Keras calls this.

        Args:
            batch: Number of the batch in its epoch.
            logs: The losses so far.
        """
        self._seen += batch - self._first + 1
        if self._measured is None:
            return
        measured, self._measured = self._measured, None
        measured = {
            name: {key: float(ops.convert_to_numpy(x)) for key, x in group.items()}
            for name, group in measured.items()
        }
        self._next = self._following(self._seen)
        skips = hasattr(self._trained.optimizer, "inner_optimizer")
        if skips and not all(abs(g["gradient"]) < float("inf") for g in measured.values()):
            return
        if logs and "loss" in logs:
            self.loss(float(ops.convert_to_numpy(logs["loss"])))
        self.record(self._seen, measured)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Take the validation loss; Keras calls this.

        Args:
            epoch: Number of the epoch.
            logs: Its losses.
        """
        if logs and "val_loss" in logs:
            self.loss(validation=logs["val_loss"])

    def _following(self, step: int) -> int:
        """Return the first step after this one that is to be recorded."""
        return step + 1 + -step % self.every

    def _measuring_function(self, model: Any) -> Callable[..., Any]:
        """Return a train function of the model whose logs contain the measurements."""
        train_step = model.train_step

        def measured_step(*args: Any) -> Any:
            result, measured = _watched(model.optimizer, self._groups, train_step, args)
            if isinstance(result, tuple):
                return ({**result[0], _KEY: measured}, *result[1:])
            return {**result, _KEY: measured}

        if keras.backend.backend() == "torch":
            # Not compiled even if the model is: that takes minutes, for one batch in a hundred.
            return lambda data: measured_step(data[0])
        plain = model.train_function
        # Bypasses Keras's attribute tracking.
        object.__setattr__(model, "train_step", measured_step)
        try:
            model.make_train_function(force=True)
            made: Callable[..., Any] = model.train_function
        finally:
            object.__delattr__(model, "train_step")
            model.train_function = plain
        return made


def _own(optimizer: Any) -> INNAprop:
    """Return a model's INNAprop: its optimizer, or the one in its ``LossScaleOptimizer``."""
    own = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(own, INNAprop):
        raise TypeError(
            f"the model's optimizer must be an innaprop.keras.INNAprop, got {optimizer!r}"
        )
    return own


def _watched(optimizer: Any, groups: Any, step: Callable[..., Any], args: Any) -> tuple[Any, Any]:
    """Run a train step, and return its result with the measurements of its update."""
    measured: dict[str, dict[str, Any]] = {}
    is_jax = keras.backend.backend() == "jax"
    name = "stateless_apply" if is_jax else "apply"
    plain = getattr(optimizer, name)

    def apply(grads: Any, trainable_variables: Any = None) -> Any:
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        if not optimizer.built:  # Like the first update.
            with keras.name_scope(optimizer.name, caller=optimizer):
                optimizer.build(trainable_variables)
        measured.update(_measure(optimizer, grads, trainable_variables, groups))
        return plain(grads, trainable_variables)

    def stateless_apply(optimizer_variables: Any, grads: Any, trainable_variables: Any) -> Any:
        known = _own(optimizer)._trainable_variables
        mapping = [
            *zip(optimizer.variables, optimizer_variables, strict=True),
            *zip(known, trainable_variables, strict=True),
        ]
        with keras.StatelessScope(state_mapping=mapping):
            measured.update(_measure(optimizer, list(grads), known, groups))
        return plain(optimizer_variables, grads, trainable_variables)

    object.__setattr__(optimizer, name, stateless_apply if is_jax else apply)
    try:
        result = step(*args)
    finally:
        object.__delattr__(optimizer, name)
    return result, measured


def _measure(
    optimizer: Any, grads: list[Any], variables: Any, groups: Callable[[Any], str] | None
) -> dict[str, dict[str, Any]]:
    own = _own(optimizer)
    pairs = _as_updated(optimizer, own, grads, variables)
    scalars = {
        "gamma": own.learning_rate,
        "alpha": options.at(own.alpha, own.iterations),
        "beta": options.at(own.beta, own.iterations),
        "sigma": own.sigma,
        "eps": own.epsilon,
        "weight_decay": own.weight_decay or 0.0,
    }
    measured: dict[str, dict[str, Any]] = {}
    for gradient, variable in pairs:
        i = own._get_variable_index(variable)
        m, v = moments(own._momentums[i], own._second_moments[i])
        found = sums(
            own.master_weights(variable),
            m,
            v,
            ops.cast(gradient, m.dtype),
            options.coefficients_in(m.dtype, own, own._decay(i), own.learning_rate),
            _OPERATIONS,
            _rounding(own, i, variable),
        )
        group = measured.setdefault("all" if groups is None else str(groups(variable)), {})
        for key, x in zip(SUMS, found, strict=True):
            group[key] = group.get(key, 0.0) + ops.cast(ops.convert_to_tensor(x), "float32")
        for key, value in scalars.items():
            group[key] = ops.cast(ops.convert_to_tensor(value), "float32")
    return measured


def _as_updated(
    optimizer: Any, own: INNAprop, grads: list[Any], variables: Any
) -> list[tuple[Any, Any]]:
    """Return pairs of gradient (unscaled, accumulated and clipped) and variable."""
    variables = own._trainable_variables if variables is None else list(variables)
    pairs = [
        (dense(g, v), v)
        for g, v in zip(grads, variables, strict=True)
        if g is not None and not getattr(v, "overwrite_with_gradient", False)
    ]
    scale = optimizer.dynamic_scale if optimizer is not own else own.loss_scale_factor
    gradients = [g if scale is None else g / ops.cast(scale, g.dtype) for g, _ in pairs]
    kept = [v for _, v in pairs]
    if own.gradient_accumulation_steps:
        added = [own._accumulated_gradients[own._get_variable_index(v)] for v in kept]
        gradients = [
            (g + ops.cast(more, g.dtype)) / own.gradient_accumulation_steps
            for g, more in zip(gradients, added, strict=True)
        ]
    return list(zip(own._clip_gradients(gradients), kept, strict=True))


def _rounding(own: INNAprop, i: int, variable: Any) -> Callable[[Any], Any] | None:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if dtype not in SIXTEEN_BITS or own._residuals[i] is not None:
        return None
    backend = keras.backend.backend()
    if backend not in _TO_FLOAT32:
        return lambda x: ops.cast(ops.cast(x, dtype), x.dtype)
    to_float32 = import_module(f"innaprop.forms.{_TO_FLOAT32[backend]}").to_float32
    return lambda x: to_float32(ops.cast(x, dtype))
