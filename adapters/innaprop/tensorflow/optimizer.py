"""The optimizer: options, state and update."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from innaprop.forms import Row, variables
from innaprop.tensorflow import hyperparameters
from innaprop.tensorflow.checks import (
    check_constraint,
    check_mode,
    check_state_bits,
    check_variable,
    checked_pairs,
)
from innaprop.tensorflow.distribution import check_placement, on_each_replica, once
from innaprop.tensorflow.slots import Index, make_slots, state_dtype
from innaprop_core import momentum, packed

__all__ = ["INNAprop"]


class INNAprop(tf.Module):
    """INNAprop. Its state is as large as AdamW's: two variables per model variable.

    Works in eager loops and inside ``tf.function``, with and without XLA, and in ``tf.distribute``
    strategies that mirror variables, where gradients are summed over the replicas.
    ``tf.train.Checkpoint`` saves and restores all of it; it may be restored before the state is
    created. State is listed in the order in which variables are first updated; ``build`` fixes
    that order beforehand.

    bfloat16 and float16 variables have float32 state and 16 more bits, the residual: variable and
    residual together are float32 master weights (for float16, within its range).

    The constraint of a ``tf.Variable`` is applied after each update and does not change the
    momentum. For a 16-bit variable it gets the value without the residual, which is set to zero in
    the elements that the constraint changes.

    Args:
        learning_rate: The paper's gamma, in [0, beta); a float or a constant tensor (kept in a
            ``tf.Variable``, settable later), a floating scalar ``tf.Variable`` (with
            ``trainable=False``, else it is one of this module's trainable variables), or a
            callable, such as a schedule object, that takes ``iterations`` and returns a number or
            a floating scalar tensor. Default 1e-3.
        alpha: Viscous damping, >= 0; likewise. Default 0.1.
        beta: Newtonian damping, > 0; likewise. Default 0.9.
        sigma: Decay rate of the second moment (Adam's beta2), in [0, 1). Like epsilon,
            weight_decay and decay_momentum, settable until a function is traced. Default 0.999.
        epsilon: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0. Default
            0.01.
        residual: Whether 16-bit variables have a residual. Default True.
        name: Name of the module. Default "INNAprop".
        decay_momentum: Whether weight decay also changes the momentum, as in Algorithm 1. If not,
            the weight only decays by gamma lambda, as in AdamW. Default True.
        state_bits: Bits of the momentum and of the second moment, each: 32; or 16, for float32,
            bfloat16 and float16 variables only. Default 32.
        seed: Seed of the stochastic rounding of a 16-bit state; any integer. Default 0.

    Attributes:
        iterations: Number of calls of ``apply_gradients``, a ``tf.Variable`` of int64.
        momentums: The momentum of each variable, in the order described above; of the variable's
            shape and dtype, float32 for 16-bit variables. With ``state_bits=16``, uint32 words that
            contain the packed momentum and second moment.
        second_moments: Likewise the second moment; None with ``state_bits=16``.
        updates: Likewise the number of updates, int64; smaller than ``iterations`` if the variable
            had no gradient at some of them.
        residuals: Likewise the residual of 16-bit variables, int16; None for others.

    Raises:
        TypeError: An argument is not a number, or ``state_bits`` or ``seed`` is not an integer.
        ValueError: An argument is outside its range, or learning_rate >= beta.
        RuntimeError: The default graph is one of TensorFlow 1.

    The values of variables and callables are checked at every eager update. In a function that is
    being traced tensors have no values yet, and are not checked.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.

    Example:
        >>> import tensorflow as tf
        >>> from innaprop.tensorflow import INNAprop
        >>> w = tf.Variable([1.0, 2.0])
        >>> optimizer = INNAprop(learning_rate=1e-3)
        >>> _ = optimizer.minimize(lambda: tf.reduce_sum(w**2), [w])
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        *,
        alpha: Any = 0.1,
        beta: Any = 0.9,
        sigma: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        residual: bool = True,
        name: str = "INNAprop",
        decay_momentum: bool = True,
        state_bits: int = 32,
        seed: int = 0,
    ) -> None:
        check_mode()
        packed.check_storage(state_bits, seed)
        fixed = {
            "sigma": sigma,
            "eps": epsilon,
            "weight_decay": weight_decay,
            "decay_momentum": decay_momentum,
        }
        values = {"learning_rate": learning_rate, "alpha": alpha, "beta": beta}
        values = {key: hyperparameters.unwrapped(value) for key, value in values.items()}
        hyperparameters.check(fixed | values)
        self.residual = residual
        super().__init__(name=name)
        self._state_bits, self._seed = state_bits, seed
        self._bounds = hyperparameters.Bounds(values)
        self.sigma = sigma
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.decay_momentum = decay_momentum
        self.iterations = tf.Variable(
            0,
            dtype=tf.int64,
            trainable=False,
            name="iterations",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self.momentums: list[Any] = []
        self.second_moments: list[Any] = []
        self.updates: list[Any] = []
        self.residuals: list[Any] = []
        self._index = Index()
        for key, value in values.items():
            setattr(self, f"_{key}", hyperparameters.kept(key, value))

    def __repr__(self) -> str:
        # Keras's model.compile shows this when it rejects the optimizer.
        return (
            f"<INNAprop {self.name!r} of innaprop.tensorflow, for training loops of your own; "
            "model.compile of Keras 3 takes innaprop.keras.INNAprop>"
        )

    @property
    def residual(self) -> bool:
        """Whether 16-bit variables whose state is created from now on have a residual.

        Raises:
            TypeError: When set: the value is not a bool.
        """
        return self._residual

    @residual.setter
    def residual(self, residual: bool) -> None:
        if not isinstance(residual, bool):
            raise TypeError(f"residual must be True or False, got {residual!r}")
        self._residual = residual

    @property
    def state_bits(self) -> int:
        """Bits of the momentum and of the second moment, each."""
        return self._state_bits

    @property
    def seed(self) -> int:
        """Seed of the stochastic rounding of a 16-bit state."""
        return self._seed

    sigma = hyperparameters.constant(
        "sigma",
        """The decay rate of the second moment.

        It is a constant in traced functions, so it can only be set until one is traced, and
        afterwards on a copy of the optimizer.

        Raises:
            TypeError: When set: the value is not a number.
            ValueError: When set: the value is not in [0, 1), or it differs after a function was
                traced.
        """,
    )
    epsilon = hyperparameters.constant(
        "epsilon",
        """The number added to the root of the second moment; settable like ``sigma``.

        Raises:
            TypeError: When set: the value is not a number.
            ValueError: When set: the value is not a finite number >= 0, or it differs after a
                function was traced.
        """,
    )
    weight_decay = hyperparameters.constant(
        "weight_decay",
        """The weight decay per unit of learning rate; settable like ``sigma``.

        Raises:
            TypeError: When set: the value is not a number.
            ValueError: When set: the value is not a finite number >= 0, or it differs after a
                function was traced.
        """,
    )
    decay_momentum = hyperparameters.constant(
        "decay_momentum",
        """Whether weight decay also changes the momentum; settable like ``sigma``.

        Raises:
            TypeError: When set: the value is not a bool.
            ValueError: When set: the value differs after a function was traced.
        """,
    )
    learning_rate = hyperparameters.settable(
        "learning_rate",
        """The learning rate of the next update: a ``tf.Variable``, or the callable's result.

        Setting it assigns to the variable, which also affects compiled functions. The new value is
        a number, or a floating scalar tensor or ``tf.Variable`` of any precision.

        Raises:
            TypeError: When set: the value is not a number or floating tensor, or the optimizer was
                created with a callable, or with a symbolic tensor in a traced function.
            ValueError: When set: the value is not in [0, beta).
        """,
    )
    alpha = hyperparameters.settable(
        "alpha",
        """The viscous damping of the next update, like ``learning_rate``.

        Raises:
            TypeError: As for ``learning_rate``.
            ValueError: When set: the value is not a finite number >= 0, or a function that XLA has
                compiled does not allow it.
        """,
    )
    beta = hyperparameters.settable(
        "beta",
        """The Newtonian damping of the next update, like ``learning_rate``.

        Raises:
            TypeError: As for ``learning_rate``.
            ValueError: When set: the value is not a finite number > learning_rate, or a function
                that XLA has compiled does not allow it.
        """,
    )

    def build(self, var_list: Sequence[Any]) -> None:
        """Create the state of variables, in this order, except of those that have state.

        Updates create missing state themselves. Call this if that is too late: before a
        ``tf.function`` that was already traced gets new variables, or before a checkpoint is
        restored into variables that will be updated in another order.

        Args:
            var_list: float32, float64, bfloat16 or float16 ``tf.Variable`` of fully defined shapes.

        Raises:
            TypeError: One is not a ``tf.Variable`` of these dtypes, or its constraint returns
                another dtype; or it is float64 and ``state_bits`` is 16.
            ValueError: The shape of one is not fully defined, its replicas may differ, or its
                constraint returns another shape. Nothing is changed then.
            RuntimeError: The default graph is one of TensorFlow 1.
        """
        check_mode()
        _check_sequence(var_list)
        var_list = list(var_list)
        for variable in var_list:
            check_variable(variable)
        self._make_slots(var_list)

    def apply(self, grads: Sequence[Any], var_list: Sequence[Any]) -> Any:
        """Make one update, from gradients and variables in two sequences of equal length.

        Args:
            grads: Gradients, or None, as for ``apply_gradients``.
            var_list: The variables.

        Returns:
            ``iterations``.

        Raises:
            TypeError: As in ``apply_gradients``.
            ValueError: The lengths differ, or as in ``apply_gradients``.
            RuntimeError: As in ``apply_gradients``.
        """
        _check_sequence(var_list)
        grads, var_list = list(grads), list(var_list)
        if len(grads) != len(var_list):
            raise ValueError(
                "grads and var_list must be of one length, "
                f"got {len(grads)} gradients and {len(var_list)} variables"
            )
        return self.apply_gradients(zip(grads, var_list, strict=True))

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> Any:
        """Make one update.

        A variable's ``constraint`` is applied to its new value.

        In a replica context of a ``tf.distribute`` strategy the gradients of all replicas are
        summed; the loss must be divided by the global batch size, as everywhere in
        ``tf.distribute``. In cross-replica context a tensor is taken as the total gradient, and
        per-replica values are summed.

        Args:
            grads_and_vars: Pairs of gradient and ``tf.Variable`` of fully defined shape. A gradient
                has its variable's shape and dtype; ``tf.IndexedSlices`` are converted to dense.
                With None the variable is not updated, with a warning that names it. A ``zip``
                silently truncates sequences of different lengths; ``apply`` checks them.

        Returns:
            ``iterations``.

        Raises:
            TypeError: A variable is not a ``tf.Variable`` of float32, float64, bfloat16 or float16,
                or is float64 with ``state_bits=16``; a gradient or the result of a constraint has
                another dtype; or the result of a schedule is not a number.
            ValueError: There is no gradient at all; a variable is given twice; a gradient or the
                result of a constraint has another shape than its variable; a variable was not
                created under the strategy it is used in, or its replicas may differ; a function
                that was already traced would have to create state; or the value of a schedule or
                variable is outside its range. Nothing is changed then.
            RuntimeError: The default graph is one of TensorFlow 1, where nothing would run.

        Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
        """
        check_mode()
        pairs = checked_pairs(grads_and_vars)
        gradients, var_list = [g for g, _ in pairs], [v for _, v in pairs]
        check_placement(var_list)
        once(partial(self._step, var_list), gradients, var_list, _dense)
        return self.iterations

    def minimize(self, loss: Any, var_list: Sequence[Any], tape: Any = None) -> Any:
        """Compute the gradients of a loss and make one update.

        Args:
            loss: A callable without arguments that returns the loss; or, with ``tape``, the
                scalar tensor that the tape recorded.
            var_list: The variables to update.
            tape: The ``tf.GradientTape`` that recorded ``loss``. Default None.

        Returns:
            ``iterations``.

        Raises:
            TypeError: ``loss`` is a tensor and ``tape`` is missing; or as in ``apply_gradients``.
            ValueError: As in ``apply_gradients``.
            RuntimeError: As in ``apply_gradients``.
        """
        check_mode()
        _check_sequence(var_list)
        var_list = list(var_list)
        if callable(loss):
            with tf.GradientTape() if tape is None else tape as tape:
                tape.watch(var_list)
                loss = loss()
        elif tape is None:
            raise TypeError(
                "loss must be a callable without arguments, or a tensor together with the "
                f"tape that recorded it, got {loss!r} and tape=None"
            )
        return self.apply_gradients(zip(tape.gradient(loss, var_list), var_list, strict=True))

    def psi(self, parameter: Any) -> Any:
        """Return the paper's psi of a variable, with alpha and beta of the last update.

        Args:
            parameter: A ``tf.Variable``; before its first update it has its initial psi.

        Returns:
            A tensor of the variable's shape and dtype; float32 for a 16-bit variable.

        Raises:
            TypeError: It is not a ``tf.Variable`` of float32, float64, bfloat16 or float16.
            ValueError: Its shape is not fully defined, or its replicas may differ.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        theta = self.master_weights(parameter)
        m = tf.zeros_like(theta)
        if parameter in self._index:
            i = self._index[parameter]
            m, _ = variables.moments(self.momentums[i], self.second_moments[i])
        alpha, beta = (
            tf.cast(
                hyperparameters.as_float64(hyperparameters.of_last_update(self, name)), theta.dtype
            )
            for name in ("alpha", "beta")
        )
        return momentum.psi_from_momentum(theta, m, alpha=alpha, beta=beta)

    def master_weights(self, parameter: Any) -> Any:
        """Return a variable's master weights.

        Args:
            parameter: A ``tf.Variable``.

        Returns:
            A tensor of the variable's shape. For a 16-bit variable, the float32 value of the
            variable and its residual; for others, the variable's value in its dtype.

        Raises:
            TypeError: It is not a ``tf.Variable`` of float32, float64, bfloat16 or float16.
            ValueError: Its shape is not fully defined, or its replicas may differ.
        """
        check_variable(parameter)
        residual = None
        if parameter in self._index:
            residual = self.residuals[self._index[parameter]]
        return variables.read(parameter, residual, state_dtype(parameter))

    def _step(self, var_list: list[Any], gradients: list[Any]) -> None:
        """Make one update of variables with dense gradients, in cross-replica context."""
        values = {key: getattr(self, key) for key in ("learning_rate", "alpha", "beta")}
        hyperparameters.check(values)
        gamma, alpha, beta = map(hyperparameters.as_float64, values.values())
        self._make_slots(var_list)
        self._bounds.note_trace()
        places = [self._index[variable] for variable in var_list]
        for i in places:
            self.updates[i].assign_add(1)
        looks_back = variables.in_xla() and self._bounds.allow_to_look_back(self)
        packs = self.state_bits == 16
        buckets: dict[Any, list[tuple[Any, int, Any]]] = {}
        for row in zip(var_list, places, gradients, strict=True):
            buckets.setdefault(state_dtype(row[0]), []).append(row)
        for dtype, of_dtype in buckets.items():
            counts = tf.stack([tf.convert_to_tensor(self.updates[i]) for _, i, _ in of_dtype])
            c = momentum.coefficients(
                tf.cast(counts, tf.float64),
                gamma=gamma,
                alpha=alpha,
                beta=beta,
                sigma=self.sigma,
                eps=self.epsilon,
                weight_decay=self.weight_decay,
                decay_momentum=self.decay_momentum,
                seed=self.seed if packs else None,
                expm1=tf.math.expm1,
            )
            row_updates = variables.row_updates(c, len(of_dtype), dtype, looks_back, packs)
            for (variable, i, gradient), update in zip(of_dtype, row_updates, strict=True):
                m, v, residual = self.momentums[i], self.second_moments[i], self.residuals[i]
                on_each_replica(
                    partial(_update_variable, update), variable, gradient, m, v, residual
                )
        self.iterations.assign_add(1)

    def _make_slots(self, var_list: list[Any]) -> None:
        for variable in var_list:
            if variable not in self._index:
                check_state_bits(variable, self.state_bits)
                # Checked on the current value: after the update it would be too late.
                check_constraint(variable)
        for variable in var_list:
            if variable in self._index:
                continue
            # Outside a function that is being traced, whose tensors do not outlive it. Values of
            # a checkpoint that was restored earlier are assigned here too.
            with tf.init_scope():
                state = make_slots(variable, self.residual, self.state_bits)
                self.momentums.append(state.momentum)
                self.second_moments.append(state.second_moment)
                self.updates.append(state.updates)
                self.residuals.append(state.residual)
            self._index.append(variable)


def _update_variable(update: variables.RowUpdate, *values: Any) -> None:
    row = Row(*values)
    update(row)
    if row.theta.constraint is not None:
        _constrain(row.theta, row.residual)


def _constrain(variable: Any, residual: Any) -> None:
    value = tf.convert_to_tensor(variable)
    constrained = variable.constraint(value)
    if residual is not None:
        # The constraint determines the whole value: a residual could violate it.
        same = tf.equal(*(tf.bitcast(x, tf.int16) for x in (value, constrained)))
        residual.assign(tf.where(same, residual, tf.zeros_like(residual)))
    variable.assign(constrained)


def _check_sequence(var_list: Any) -> None:
    if isinstance(var_list, tf.Variable):
        raise TypeError(f"var_list must be a sequence of variables, got {var_list!r}")


def _dense(gradient: Any, variable: Any) -> Any:
    """Return a gradient as a dense tensor of the variable's shape, in the compute dtype."""
    dtype = state_dtype(variable)
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, dtype)
        return tf.math.unsorted_segment_sum(values, gradient.indices, variable.shape[0])
    return tf.cast(gradient, dtype)
