"""The optimizer class: options, state, and the order in which things happen."""

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
    """INNAprop, with AdamW's memory: two variables of state per model variable.

    Works in eager loops and inside ``tf.function``, compiled by XLA or not, and in
    ``tf.distribute`` strategies that mirror variables, where gradients are summed over the
    replicas. ``tf.train.Checkpoint`` saves and restores it whole; a restore may come before the
    state exists. State is kept in the order in which variables were met: ``build`` fixes that
    order beforehand.

    bfloat16 and float16 variables have float32 state and 16 more bits, the residual: variable and
    residual together are the float32 trajectory, of float16 within its range.

    The constraint of a ``tf.Variable`` is applied after each update; the momentum stays as it is.
    Of a 16-bit variable it takes the value without the residual, which becomes zero in the
    elements that the constraint changes.

    Args:
        learning_rate: The paper's gamma, in [0, beta); a float or a constant tensor (kept in a
            ``tf.Variable``, settable later), a floating scalar ``tf.Variable`` (of
            ``trainable=False``, or it counts among this module's trainable variables), or a
            callable, a schedule object for example, that takes ``iterations`` and returns a
            number or a floating scalar tensor. Default 1e-3.
        alpha: Viscous damping, >= 0; likewise. Default 0.1.
        beta: Newtonian damping, > 0; likewise. Default 0.9.
        sigma: Memory of the second moment, in [0, 1); settable until a function is traced, as
            the following ones are. Default 0.999.
        epsilon: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0. Default
            0.01.
        residual: Whether 16-bit variables have a residual. Default True.
        name: Name of the module. Default "INNAprop".
        decay_momentum: Whether weight decay reaches the momentum too, as Algorithm 1 says;
            without, the weight decays by gamma lambda and nothing else, as in AdamW. Default
            True.
        state_bits: Bits of each of the two numbers of a variable's state: 32, or 16, of float32,
            bfloat16 and float16 variables. Default 32.
        seed: Where the draws begin by which a state of 16 bits is rounded; any integer. Default 0.

    Attributes:
        iterations: Calls of ``apply_gradients``, a ``tf.Variable`` of int64.
        momentums: The momentum of every variable met so far, in that order; of the variable's
            shape and dtype, float32 for 16 bits. With ``state_bits=16`` uint32 words, which
            momentum and second moment are packed into.
        second_moments: Likewise the second moment; None with ``state_bits=16``.
        updates: Likewise the updates made, int64: a variable that had no gradient at some
            iterations has fewer.
        residuals: Likewise the residual, int16, of 16-bit variables; None for others.

    Raises:
        TypeError: An argument is not a number, or ``state_bits`` or ``seed`` no integer.
        ValueError: An argument is outside its range, or learning_rate >= beta.
        RuntimeError: The default graph is one of TensorFlow 1.

    What variables and callables give is checked at every update that runs eagerly. In a function
    that is being traced tensors have no values yet: they are used as they are.

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
        alpha: Any = 0.1,
        beta: Any = 0.9,
        sigma: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        residual: bool = True,
        name: str = "INNAprop",
        *,
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
        # Keras's model.compile shows this where it refuses the optimizer.
        return (
            f"<INNAprop {self.name!r} of innaprop.tensorflow, for training loops of your own; "
            "model.compile of Keras 3 takes innaprop.keras.INNAprop>"
        )

    @property
    def residual(self) -> bool:
        """Whether 16-bit variables that are met from now on have a residual.

        Raises:
            TypeError: On setting, the value is not a bool.
        """
        return self._residual

    @residual.setter
    def residual(self, residual: bool) -> None:
        if not isinstance(residual, bool):
            raise TypeError(f"residual must be True or False, got {residual!r}")
        self._residual = residual

    @property
    def state_bits(self) -> int:
        """Bits of each of the two numbers of a variable's state, as given."""
        return self._state_bits

    @property
    def seed(self) -> int:
        """Where the draws begin by which a state of 16 bits is rounded, as given."""
        return self._seed

    sigma = hyperparameters.constant(
        "sigma",
        """The memory of the second moment.

        Functions keep to what it is when they are traced, so it can be set until then, and on a
        copy of the optimizer afterwards.

        Raises:
            TypeError: On setting, the value is not a number.
            ValueError: On setting, the value is not in [0, 1), or another one after a function
                was traced.
        """,
    )
    epsilon = hyperparameters.constant(
        "epsilon",
        """What is added to the root of the second moment; settable as ``sigma``.

        Raises:
            TypeError: On setting, the value is not a number.
            ValueError: On setting, the value is not a finite number >= 0, or another one after a
                function was traced.
        """,
    )
    weight_decay = hyperparameters.constant(
        "weight_decay",
        """The decay per unit of learning rate; settable as ``sigma``.

        Raises:
            TypeError: On setting, the value is not a number.
            ValueError: On setting, the value is not a finite number >= 0, or another one after a
                function was traced.
        """,
    )
    decay_momentum = hyperparameters.constant(
        "decay_momentum",
        """Whether weight decay reaches the momentum too; settable as ``sigma``.

        Raises:
            TypeError: On setting, the value is not a bool.
            ValueError: On setting, the value is another one after a function was traced.
        """,
    )
    learning_rate = hyperparameters.settable(
        "learning_rate",
        """The learning rate of the next update: a ``tf.Variable`` or what the callable gives.

        Setting it assigns to the variable, which compiled functions see too: a number, or the
        value of a floating scalar tensor or ``tf.Variable`` of any precision.

        Raises:
            TypeError: On setting, the value is neither a number nor floating, or the optimizer
                was made with a callable, or in a traced function with a tensor of it.
            ValueError: On setting, the value is not in [0, beta).
        """,
    )
    alpha = hyperparameters.settable(
        "alpha",
        """The viscous damping of the next update, as ``learning_rate``.

        Raises:
            TypeError: As for ``learning_rate``.
            ValueError: On setting, the value is not a finite number >= 0, or a
                function that XLA has compiled does not allow it.
        """,
    )
    beta = hyperparameters.settable(
        "beta",
        """The Newtonian damping of the next update, as ``learning_rate``.

        Raises:
            TypeError: As for ``learning_rate``.
            ValueError: On setting, the value is not a finite number > learning_rate, or a
                function that XLA has compiled does not allow it.
        """,
    )

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the state of variables, in this order; those that have state are left alone.

        Updates make it themselves where it is missing. Call this where that is too late: before
        a ``tf.function`` that was already traced meets new variables, or before a checkpoint is
        restored into variables that will be met in another order.

        Args:
            var_list: float32, float64, bfloat16 or float16 ``tf.Variable`` of fully defined shapes.

        Raises:
            TypeError: One is not a ``tf.Variable`` of these dtypes, or its constraint gives another
                dtype; or it is float64, and ``state_bits`` is 16.
            ValueError: The shape of one is not fully defined, its replicas may differ, or its
                constraint gives another shape. Nothing has changed then.
            RuntimeError: The default graph is one of TensorFlow 1.
        """
        check_mode()
        _check_sequence(var_list)
        var_list = list(var_list)
        for variable in var_list:
            check_variable(variable)
        self._make_slots(var_list)

    def apply(self, grads: Sequence[Any], var_list: Sequence[Any]) -> Any:
        """Make one update, from gradients and variables in two sequences of one length.

        Args:
            grads: Gradients, or None, as for ``apply_gradients``.
            var_list: The variables.

        Returns:
            ``iterations``.

        Raises:
            TypeError: As ``apply_gradients`` says.
            ValueError: The lengths differ, or as ``apply_gradients`` says.
            RuntimeError: As ``apply_gradients`` says.
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
        summed; the loss has to be divided by the global batch size, as everywhere in
        ``tf.distribute``. In cross-replica context a tensor is taken for the whole gradient,
        and values per replica are summed.

        Args:
            grads_and_vars: Pairs of gradient and ``tf.Variable``, whose shape is fully
                defined. A gradient has its variable's shape and dtype; ``tf.IndexedSlices``
                are made dense; None leaves its variable as it is, with a warning that names
                it. Of a ``zip`` of sequences of different lengths only the common part
                arrives: ``apply`` tells.

        Returns:
            ``iterations``.

        Raises:
            TypeError: A variable is not a ``tf.Variable`` of float32, float64, bfloat16 or float16,
                or float64 with ``state_bits=16``, a gradient or what its constraint gives has
                another dtype, or what a schedule gave is not a number.
            ValueError: There is no gradient at all, a variable comes twice, a gradient has
                another shape than its variable, or what a constraint gives has, a variable was
                not created under the strategy
                it is used in or its replicas may differ, a function that was already traced
                would have to create state; what a schedule or a variable gave is outside its
                range. Nothing has changed then.
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
            TypeError: ``loss`` is a tensor and ``tape`` is missing; or as
                ``apply_gradients`` says.
            ValueError: As ``apply_gradients`` says.
            RuntimeError: As ``apply_gradients`` says.
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
            parameter: A ``tf.Variable``; one that was not updated yet has its initial psi.

        Returns:
            A tensor of the variable's shape and dtype, float32 for 16 bits.

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
        """Return the value of a variable that its updates go on from.

        Args:
            parameter: A ``tf.Variable``.

        Returns:
            A tensor of the variable's shape; of a 16-bit variable the float32 that it and its
            residual are together, of others the value, in its dtype.

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
                # Tried on the value that is there: after an update it would be too late.
                check_constraint(variable)
        for variable in var_list:
            if variable in self._index:
                continue
            # Outside of a function that is being traced, whose tensors end with it. What was
            # restored before is assigned there too.
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
        # The constraint gives the whole value of what it changes: a remainder would leave it.
        same = tf.equal(*(tf.bitcast(x, tf.int16) for x in (value, constrained)))
        residual.assign(tf.where(same, residual, tf.zeros_like(residual)))
    variable.assign(constrained)


def _check_sequence(var_list: Any) -> None:
    if isinstance(var_list, tf.Variable):
        raise TypeError(f"var_list must be a sequence of variables, got {var_list!r}")


def _dense(gradient: Any, variable: Any) -> Any:
    """Return a gradient as a tensor of the variable's shape and its state's dtype."""
    dtype = state_dtype(variable)
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, dtype)
        return tf.math.unsorted_segment_sum(values, gradient.indices, variable.shape[0])
    return tf.cast(gradient, dtype)
