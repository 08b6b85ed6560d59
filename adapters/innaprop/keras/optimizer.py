"""The optimizer: options, state and update."""

import warnings
from collections.abc import Callable
from importlib import import_module
from numbers import Real
from typing import Any

import keras
from keras import ops

from innaprop.forms import Row
from innaprop.keras import averages, names, options, slots
from innaprop.keras.gradients import SIXTEEN_BITS, check_gradients, check_variables, dense
from innaprop_core import momentum, packed

_FORMS = {"tensorflow": "variables", "jax": "functional", "torch": "foreach"}
"""The form of each backend that has ``join`` for residuals."""


@keras.saving.register_keras_serializable(package="innaprop")
class INNAprop(keras.optimizers.Optimizer):
    """INNAprop. Its state is as large as AdamW's, or half as large with ``state_bits=16``.

    Args:
        learning_rate: The paper's gamma, in [0, beta); a float, a
            ``keras.optimizers.schedules.LearningRateSchedule`` or a callable without
            arguments. Default 1e-3. It is checked whenever its value is known: here, when it
            is set, and at every update that is not compiled.
        alpha: Viscous damping, >= 0; a number, or a schedule: a ``LearningRateSchedule`` or any
            callable that takes the number of previous updates (0 at the first, a scalar tensor of
            ``keras.config.floatx()``) and returns a number or a scalar tensor. Default 0.1.
        beta: Newtonian damping, > 0; like alpha. Default 0.9.
        sigma: Decay rate of the second moment (Adam's beta2), in [0, 1). Default 0.999.
        epsilon: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0; None is 0.
            Default 0.01.
        decay_momentum: Whether weight decay also changes the momentum, as in Algorithm 1. If not,
            the weight only decays by gamma lambda, as in AdamW. Default True.
        residual: Keep 16 more bits for every bfloat16 or float16 variable, so that both together
            are float32 master weights (for float16, within its range). Otherwise small steps are
            lost in rounding. Default True.
        state_bits: Bits of the momentum and of the second moment, each: 32; or 16, for float32,
            bfloat16 and float16 variables only. Default 32.
        seed: Seed of the stochastic rounding of a 16-bit state; any integer. Default 0.
        name: Name of the optimizer. Default "innaprop", numbered like all names in Keras: the
            second instance is "innaprop_1".
        **keras_kwargs: Arguments of every Keras optimizer: ``clipnorm``, ``clipvalue``,
            ``global_clipnorm``, ``use_ema``, ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``.

    Raises:
        TypeError: An argument is not a number, ``state_bits`` or ``seed`` is not an integer, or a
            schedule does not return a number.
        ValueError: An argument is outside its range, learning_rate >= beta (for a schedule, its
            first value), or an argument has another name here than in other optimizers.

    State per variable: momentum and second moment, of the variable's shape and dtype (float32 for
    16-bit variables); with ``state_bits=16``, one variable of 32-bit integers that contains both.
    16-bit variables also have a residual (int16). All start at zero.

    The update is computed in the state's dtype. Keras stores the learning rate in
    ``keras.config.floatx()``: for float64 training, set that to "float64" too. As in every Keras
    optimizer, Algorithm 1's count k is ``iterations`` for all variables: if a variable gets its
    first gradient late, its bias correction is that of a variable updated from the start.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.

    Example:
        >>> import keras
        >>> from innaprop.keras import INNAprop
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=INNAprop(learning_rate=1e-3), loss="mse")
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        *,
        alpha: float | Callable[[Any], Any] = 0.1,
        beta: float | Callable[[Any], Any] = 0.9,
        sigma: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float | None = 0.01,
        decay_momentum: bool = True,
        residual: bool = True,
        state_bits: int = 32,
        seed: int = 0,
        name: str | None = None,
        **keras_kwargs: Any,
    ) -> None:
        scalars = {
            "alpha": alpha,
            "beta": beta,
            "sigma": sigma,
            "epsilon": epsilon,
            "weight_decay": weight_decay,
        }
        options.check_names(keras_kwargs)
        options.check_options({**scalars, "decay_momentum": decay_momentum}, learning_rate)
        if not isinstance(residual, bool):
            raise TypeError(f"residual must be True or False, got {residual!r}")
        packed.check_storage(state_bits, seed)
        plain = {k: float(v) if isinstance(v, Real) else v for k, v in scalars.items()}
        super().__init__(
            learning_rate=float(learning_rate)
            if isinstance(learning_rate, Real)
            else learning_rate,
            weight_decay=plain.pop("weight_decay"),
            name=names.numbered("innaprop") if name is None else name,
            **keras_kwargs,
        )
        for key, value in plain.items():
            setattr(self, key, value)
        self.decay_momentum = decay_momentum
        self.residual = residual
        self._state_bits, self._seed = state_bits, seed
        self._excluded_names: list[str] = []
        self._exclusions_are_set = False
        self._decays: list[bool] = []

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next update.

        Raises:
            TypeError: When set: it is not a number, tensor or callable.
            ValueError: When set: the number, or a schedule's current value, is not in [0, beta).
        """
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        options.check_learning_rate(learning_rate, self)
        keras.optimizers.Optimizer.learning_rate.fset(self, learning_rate)

    @property
    def state_bits(self) -> int:
        """Bits of the momentum and of the second moment, each."""
        return self._state_bits

    @property
    def seed(self) -> int:
        """Seed of the stochastic rounding of a 16-bit state."""
        return self._seed

    def build(self, variables: Any) -> None:
        """Create the state of every variable, all zero.

        Args:
            variables: The model's trainable variables: float32, float64, bfloat16 or
                float16; with ``state_bits=16`` not float64.

        Raises:
            TypeError: One is not a variable of this Keras, or of another dtype. Nothing is built
                then.
        """
        if self.built:
            return
        variables = list(variables)
        check_variables(variables, self.state_bits)
        super().build(variables)
        self._momentums, self._second_moments = slots.add(self, variables)
        self._decays = [self._use_weight_decay(v) for v in variables]
        self._residuals = [
            self.add_variable_from_reference(v, "residual")
            if self.residual and keras.backend.standardize_dtype(v.dtype) in SIXTEEN_BITS
            else None
            for v in variables
        ]

    def add_variable(
        self, shape: Any, initializer: Any = "zeros", dtype: Any = None, **keras_kwargs: Any
    ) -> Any:
        """Add a variable to the optimizer, like Keras; but no floating variable has 16 bits.

        The state of a 16-bit variable is float32, except the residual, which is int16. Packed state
        is 32-bit integers.

        Args:
            shape: Its shape.
            initializer: Its initial value. Default "zeros".
            dtype: Its dtype. Default ``keras.config.floatx()``.
            **keras_kwargs: ``aggregation``, ``layout``, ``name``.
        """
        if dtype is not None:
            name = keras_kwargs.get("name") or ""
            dtype = slots.dtype_of(name, keras.backend.standardize_dtype(dtype))
        return super().add_variable(shape, initializer, dtype, **keras_kwargs)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Exclude variables from weight decay: neither they nor their momentum decay.

        Args:
            var_list: The model variables to exclude. Default None.
            var_names: Regular expressions, such as ``["bias"]``; variables whose names contain a
                match are excluded. Default None.

        Raises:
            TypeError: ``var_names`` is a string, which would be read as a list of letters.
            ValueError: The optimizer is already built.
        """
        if isinstance(var_names, str):
            raise TypeError(f"var_names must be a list of strings, got the string {var_names!r}")
        if self.built:
            raise ValueError("exclude_from_weight_decay must come before the optimizer is built")
        super().exclude_from_weight_decay(var_list, var_names)
        self._excluded_names = list(var_names or [])
        self._exclusions_are_set = True

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Make one update.

        Args:
            grads: A floating tensor, of any dtype and of its variable's shape, for each of
                ``trainable_variables``; sparse ones are converted to dense. With None the variable
                is not updated, with a warning.
            trainable_variables: Model variables, some or all of those the optimizer was built
                with. Default: all of them. The first call builds the optimizer if necessary.

        Raises:
            TypeError: A gradient is not a floating tensor; or as in ``build``.
            ValueError: There is not one gradient per variable, one has another shape, or all are
                None; a variable is given twice or was not given to ``build``; an option was set to
                a value that the constructor would reject, or, unless this is compiled, a schedule
                or variable has such a value. Nothing is changed then.

        Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
        """
        grads = list(grads)
        options.check_numbers(self)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                check_variables(trainable_variables, self.state_bits)
            check_gradients(grads, trainable_variables)
            if len({self._var_key(v) for v in trainable_variables}) < len(trainable_variables):
                raise ValueError("trainable_variables must name each variable once")
        elif self.built:
            check_gradients(grads, self._trainable_variables)
        super().apply(grads, trainable_variables)

    def stateless_apply(
        self, optimizer_variables: Any, grads: Any, trainable_variables: Any
    ) -> tuple[list[Any], list[Any]]:
        """Return the variables after an update, without changing them. Not on TensorFlow.

        Args:
            optimizer_variables: Values of ``variables``, in that order.
            grads: Gradients as for ``apply``.
            trainable_variables: Values of the variables that the optimizer was built with.

        Returns:
            New values of ``trainable_variables`` and of ``optimizer_variables``.

        Raises:
            ValueError: The optimizer is not built, or the lengths of the lists are wrong.
        """
        if keras.backend.backend() == "torch":
            # The update writes in place.
            optimizer_variables, trainable_variables = (
                [ops.copy(ops.stop_gradient(v)) for v in values]
                for values in (optimizer_variables, trainable_variables)
            )
        result: tuple[list[Any], list[Any]] = super().stateless_apply(
            optimizer_variables, grads, trainable_variables
        )
        return result

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        # Before Keras clips and accumulates: sparse gradients may have duplicate rows, and 16 bits
        # are too few for sums.
        grads = [dense(g, v) for g, v in zip(grads, trainable_variables, strict=True)]
        super()._backend_apply_gradients(grads, trainable_variables)
        for variable in trainable_variables:
            if variable.constraint is not None:
                self._clear_residual_of_constrained(variable)

    def _clear_residual_of_constrained(self, variable: Any) -> None:
        """Set the residual to zero where the variable's constraint will change the value.

        Keras assigns the constrained value next. It is the whole value: with the old residual,
        the master weight would be off by up to half a unit in the last place.
        """
        residual = self._residuals[self._get_variable_index(variable)]
        if residual is not None:
            value = ops.convert_to_tensor(variable)
            kept = ops.equal(variable.constraint(value), value)
            old = ops.convert_to_tensor(residual)
            self.assign(residual, ops.where(kept, old, ops.zeros_like(old)))

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        if self.use_ema:
            averages.follow(
                self._model_variables_moving_average,
                trainable_variables,
                self.ema_momentum,
                self.iterations,
            )

    def _overwrite_model_variables_with_average_value(self, trainable_variables: Any) -> None:
        averages.overwrite(
            self._model_variables_moving_average,
            list(trainable_variables),
            self.assign,
            getattr(self, "_distribution_strategy", None),
        )

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do nothing: weight decay is part of the update, since it changes the momentum."""

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        # Checked once, before any variable is changed.
        options.check_step(self, learning_rate)
        if keras.backend.backend() == "torch":
            from innaprop.keras import torch

            pairs = zip(grads, trainable_variables, strict=True)
            torch.update(self, self._rows(pairs), learning_rate)
        else:
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _distributed_tf_update_step(
        self, distribution: Any, grads_and_vars: Any, learning_rate: Any
    ) -> None:
        """Make one update on TensorFlow; Keras calls this in cross-replica context."""
        from innaprop.keras import tensorflow

        tensorflow.update(self, distribution, self._rows(grads_and_vars), learning_rate)

    def _rows(self, grads_and_vars: Any) -> list[tuple[Row, float]]:
        """Return the row (of backend variables) and the weight decay of each variable."""
        rows = []
        for gradient, variable in grads_and_vars:
            i = self._get_variable_index(variable)
            state = self._momentums[i], self._second_moments[i], self._residuals[i]
            values = (None if slot is None else slot.value for slot in state)
            rows.append((Row(variable, gradient, *values), self._decay(i)))
        return rows

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Make one update of one variable; Keras calls this, on JAX.

        Args:
            gradient: Dense tensor of the variable's shape.
            variable: Model variable.
            learning_rate: Step size of this update, a 0-d tensor.

        Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
        """
        from innaprop.keras import jax

        i = self._get_variable_index(variable)
        state = self._momentums[i], self._second_moments[i], self._residuals[i]
        values = (None if slot is None else ops.convert_to_tensor(slot) for slot in state)
        row = Row(ops.convert_to_tensor(variable), gradient, *values)
        updated = jax.updated(self, row, self._decay(i), learning_rate)
        for slot, value in zip((variable, *state), updated, strict=True):
            if slot is not None:
                self.assign(slot, value)

    def _decay(self, index: int) -> float:
        decays = self.weight_decay is not None and self._decays[index]
        return self.weight_decay if decays else 0.0

    def psi(self, parameter: Any) -> Any:
        """Return the paper's psi of a variable, with alpha and beta of the last update.

        Args:
            parameter: One of the variables that the optimizer was built with.

        Returns:
            A tensor of the variable's shape and of its state's dtype.

        Raises:
            ValueError: The optimizer was not built with this variable.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        theta = self.master_weights(parameter)
        i = self._get_variable_index(parameter)
        m, _ = slots.moments(self._momentums[i], self._second_moments[i])
        last = ops.maximum(ops.convert_to_tensor(self.iterations) - 1, 0)
        return momentum.psi_from_momentum(
            theta,
            m,
            alpha=options.at(self.alpha, last),
            beta=options.at(self.beta, last),
        )

    def master_weights(self, variable: Any) -> Any:
        """Return a variable's master weights.

        Args:
            variable: One of the variables that the optimizer was built with.

        Returns:
            A tensor of the variable's shape. For a 16-bit variable, the float32 value of the
            variable and its residual; for others, the variable's value in its dtype.

        Raises:
            ValueError: The optimizer was not built with this variable.
        """
        self._check_variables_are_known([variable])
        i = self._get_variable_index(variable)
        residual = self._residuals[i]
        theta = ops.stop_gradient(ops.convert_to_tensor(variable))
        if residual is None:
            return ops.cast(theta, slots.compute_dtype(theta.dtype))
        form = import_module(f"innaprop.forms.{_FORMS[keras.backend.backend()]}")
        return form.join(theta, ops.convert_to_tensor(residual))

    def save_own_variables(self, store: Any) -> None:
        """Write the state into a store; Keras calls this when a model is saved.

        It includes which variables are excluded from weight decay.

        Args:
            store: Anything that takes arrays by name, such as a dict.
        """
        slots.write(store, self.variables, self._decays)

    def load_own_variables(self, store: Any) -> None:
        """Load the state from a store; Keras calls this when a model or its weights are loaded.

        State of another optimizer, of another model or of other options is ignored with a warning,
        as in Keras's own optimizers; so is all state if the optimizer is not built. Nothing is
        changed then. ``set_weights`` and ``innaprop.load_state`` raise instead.

        Exclusions from weight decay are part of the state. Those that were set by
        ``exclude_from_weight_decay`` take precedence, with a warning if the state has others.

        Args:
            store: A store written by ``save_own_variables``, on any backend.
        """
        try:
            values, decays = slots.read(store, self.variables, len(self._decays))
        except ValueError as error:
            warnings.warn(
                f"the state of the optimizer {self.name!r} was not loaded; its current state is "
                f"kept: {error}",
                stacklevel=2,
            )
            return
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        self._decays = slots.merged_decays(self, decays or self._decays)

    def set_weights(self, weights: Any) -> None:
        """Set all variables of the optimizer.

        Args:
            weights: One array per variable, in the order of ``variables``.

        Raises:
            ValueError: The optimizer is not built, or the number of arrays or the shape of one is
                wrong. Nothing is changed then.
        """
        weights = list(weights)
        if self.built:
            slots.check_values(weights, self.variables)
        super().set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as Keras serializes them."""
        return {
            **super().get_config(),
            "alpha": options.to_config(self.alpha),
            "beta": options.to_config(self.beta),
            "sigma": self.sigma,
            "epsilon": self.epsilon,
            "decay_momentum": self.decay_momentum,
            "residual": self.residual,
            "state_bits": self.state_bits,
            "seed": self.seed,
            "exclude_from_weight_decay": self._excluded_names,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "INNAprop":
        """Return the optimizer that ``get_config`` describes.

        Args:
            config: A dict from ``get_config``.
            custom_objects: Classes and functions, by name, that are not registered with Keras.
                Default None.
        """
        config = dict(config)
        excluded = config.pop("exclude_from_weight_decay", [])
        for name in options.SCHEDULABLE:
            if name in config:
                config[name] = options.from_config(config[name], custom_objects)
        optimizer: INNAprop = super().from_config(config, custom_objects)
        if excluded:
            optimizer.exclude_from_weight_decay(var_names=excluded)
            optimizer._exclusions_are_set = False
        return optimizer


names.register(INNAprop)
