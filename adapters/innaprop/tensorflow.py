"""INNAprop as a ``tf.Module``, for TensorFlow loops without Keras."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from innaprop_core import check_hyperparameters, momentum

__all__ = ["INNAprop"]

_NAMES = {"gamma": "learning_rate", "eps": "epsilon"}
_DTYPES = (tf.float32, tf.float64)


class INNAprop(tf.Module):
    """INNAprop, with AdamW's memory: two variables of state per model variable.

    Works in eager loops and inside ``tf.function``. ``tf.train.Checkpoint`` saves and
    restores it whole; a restore may come before the state exists. State is kept in the order
    in which variables were met: ``build`` fixes that order beforehand.

    Args:
        learning_rate: The paper's gamma, in [0, beta); a float (kept in a ``tf.Variable``,
            settable later), a ``tf.Variable`` (of ``trainable=False``, or it counts among
            this module's trainable variables), or a callable that takes ``iterations`` and
            returns a number or a scalar tensor. Default 1e-3.
        alpha: Viscous damping, >= 0. Default 0.1.
        beta: Newtonian damping, > 0. Default 0.9.
        sigma: Memory of the second moment, in [0, 1). Default 0.999.
        epsilon: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0. Default
            0.01.
        name: Name of the module. Default "INNAprop".

    Attributes:
        iterations: Calls of ``apply_gradients``, a ``tf.Variable`` of int64.
        momentums: The momentum of every variable met so far, in that order.
        second_moments: Likewise the second moment.
        updates: Likewise the updates made, int64: a variable that had no gradient at some
            iterations has fewer.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument is outside its range, or learning_rate >= beta.

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
        alpha: float = 0.1,
        beta: float = 0.9,
        sigma: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        name: str = "INNAprop",
    ) -> None:
        values = {
            "alpha": alpha,
            "beta": beta,
            "sigma": sigma,
            "eps": epsilon,
            "weight_decay": weight_decay,
        }
        takes_number = not (callable(learning_rate) or isinstance(learning_rate, tf.Variable))
        check_hyperparameters(
            {**values, "gamma": learning_rate} if takes_number else values, _NAMES
        )
        super().__init__(name=name)
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.sigma = float(sigma)
        self.epsilon = float(epsilon)
        self.weight_decay = float(weight_decay)
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False, name="iterations")
        self.momentums: list[Any] = []
        self.second_moments: list[Any] = []
        self.updates: list[Any] = []
        self._index = _Index()
        # float64, so that float64 models get the number that was given.
        self._learning_rate = (
            tf.Variable(learning_rate, dtype=tf.float64, trainable=False, name="learning_rate")
            if takes_number
            else learning_rate
        )

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next update: a ``tf.Variable`` or a scalar tensor.

        Setting it assigns to the variable, which compiled functions see too.

        Raises:
            TypeError: On setting, the value is not a number, or the optimizer was made with
                a callable.
            ValueError: On setting, the value is not in [0, beta).
        """
        if isinstance(self._learning_rate, tf.Variable):
            return self._learning_rate
        return self._learning_rate(self.iterations)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if not isinstance(self._learning_rate, tf.Variable):
            raise TypeError(
                "learning_rate was given as a callable and cannot be set, "
                f"got {value!r}; give a float or a tf.Variable to be able to"
            )
        check_hyperparameters({"gamma": value, "beta": self.beta}, _NAMES)
        self._learning_rate.assign(value)

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the state of variables, in this order; those that have state are left alone.

        Updates make it themselves where it is missing. Call this where that is too late: before
        a ``tf.function`` that was already traced meets new variables, or before a checkpoint is
        restored into variables that will be met in another order.

        Args:
            var_list: float32 or float64 ``tf.Variable`` of fully defined shapes.

        Raises:
            TypeError: One is not a ``tf.Variable`` of float32 or float64.
            ValueError: The shape of one is not fully defined. Nothing has changed then.
        """
        for variable in var_list:
            _check_variable(variable)
        for variable in var_list:
            self._make_state(variable)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> Any:
        """Make one update.

        Args:
            grads_and_vars: Pairs of gradient and ``tf.Variable``, whose shape is fully
                defined. A gradient has its variable's shape and dtype; ``tf.IndexedSlices``
                are made dense; None leaves its variable as it is, with a warning that names
                it.

        Returns:
            ``iterations``.

        Raises:
            TypeError: A variable is not a float32 or float64 ``tf.Variable``, or a gradient
                has another dtype.
            ValueError: There is no gradient at all, a variable comes twice, a gradient has
                another shape than its variable, or a function that was already traced would
                have to create state. Nothing has changed then.
            RuntimeError: This is one of several replicas of a ``tf.distribute`` strategy:
                gradients would have to be summed over them, which this class does not do.

        Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
        """
        if tf.distribute.in_cross_replica_context():
            replicas = 1
        else:
            replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        if replicas > 1:
            raise RuntimeError(
                f"INNAprop must run on one replica, got {replicas}: it does not sum gradients"
            )
        pairs = _checked_pairs(grads_and_vars)
        learning_rate = self.learning_rate
        for _, variable in pairs:
            self._make_state(variable)
        for gradient, variable in pairs:
            i = self._index[variable]
            m, v, updates = self.momentums[i], self.second_moments[i], self.updates[i]
            updates.assign_add(1)
            theta, new_m, new_v = momentum.step(
                tf.convert_to_tensor(variable),
                tf.convert_to_tensor(m),
                tf.convert_to_tensor(v),
                _dense(gradient, variable),
                self._coefficients(updates, learning_rate, variable.dtype),
                tf.sqrt,
            )
            m.assign(new_m)
            v.assign(new_v)
            variable.assign(theta)
        self.iterations.assign_add(1)
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
        """
        if isinstance(var_list, tf.Variable):
            raise TypeError(f"var_list must be a sequence of variables, got {var_list!r}")
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
        """Return the paper's psi of a variable.

        Args:
            parameter: A ``tf.Variable``; one that was not updated yet has its initial psi.

        Returns:
            A tensor of the variable's shape and dtype.

        Raises:
            TypeError: It is not a ``tf.Variable`` of float32 or float64.
            ValueError: Its shape is not fully defined.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        _check_variable(parameter)
        theta = tf.convert_to_tensor(parameter)
        if parameter in self._index:
            m = tf.convert_to_tensor(self.momentums[self._index[parameter]])
        else:
            m = tf.zeros_like(theta)
        return momentum.psi_from_momentum(theta, m, alpha=self.alpha, beta=self.beta)

    def _make_state(self, variable: Any) -> None:
        if variable in self._index:
            return
        name = variable.name.partition(":")[0]
        try:
            # Outside of a function that is being traced, whose tensors end with it.
            with tf.init_scope():
                zeros = tf.zeros(variable.shape, variable.dtype)
                state = [
                    tf.Variable(zeros, trainable=False, name=f"{name}/momentum"),
                    tf.Variable(zeros, trainable=False, name=f"{name}/second_moment"),
                    tf.Variable(0, dtype=tf.int64, trainable=False, name=f"{name}/updates"),
                ]
        except ValueError as error:
            raise ValueError(
                f"the state of {variable.name} cannot be created in a tf.function that was "
                "traced before; call build(var_list) with all variables beforehand"
            ) from error
        for states, made in zip(
            (self.momentums, self.second_moments, self.updates), state, strict=True
        ):
            states.append(made)
        self._index.append(variable)

    def _coefficients(self, k: Any, learning_rate: Any, dtype: Any) -> momentum.Coefficients:
        if not tf.is_tensor(learning_rate):
            # A cast would take a Python number through float32.
            learning_rate = tf.constant(learning_rate, dtype)
        return momentum.coefficients(
            tf.cast(k, dtype),
            gamma=tf.cast(learning_rate, dtype),
            alpha=self.alpha,
            beta=self.beta,
            sigma=self.sigma,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            expm1=tf.math.expm1,
        )


class _Index:
    """The place of each variable in the lists of state.

    A plain object, since ``tf.Module`` would take a dict for something to be saved, and a
    dict keyed by variables cannot be.
    """

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}

    def append(self, variable: Any) -> None:
        self._places[variable.ref()] = len(self._places)

    def __contains__(self, variable: Any) -> bool:
        return variable.ref() in self._places

    def __getitem__(self, variable: Any) -> int:
        return self._places[variable.ref()]


def _checked_pairs(grads_and_vars: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    pairs, without, seen = [], [], set()
    for gradient, variable in grads_and_vars:
        _check_variable(variable)
        if variable.ref() in seen:
            raise ValueError(f"grads_and_vars must name a variable once, got {variable.name} twice")
        seen.add(variable.ref())
        if gradient is None:
            without.append(variable.name)
            continue
        if not isinstance(gradient, (tf.Tensor, tf.IndexedSlices)):
            gradient = tf.convert_to_tensor(gradient)
        if gradient.dtype != variable.dtype:
            raise TypeError(
                f"the gradient of {variable.name} must be {variable.dtype.name}, "
                f"got {gradient.dtype.name}"
            )
        if not variable.shape.is_compatible_with(gradient.shape):
            raise ValueError(
                f"the gradient of {variable.name} must have shape {variable.shape}, "
                f"got {gradient.shape}"
            )
        pairs.append((gradient, variable))
    if not pairs:
        raise ValueError(f"grads_and_vars must hold a gradient, got none for any of {without}")
    if without:
        warnings.warn(f"no gradient for {', '.join(without)}: left as they are", stacklevel=3)
    return pairs


def _check_variable(variable: Any) -> None:
    if not isinstance(variable, tf.Variable):
        hint = (
            "; variables of a Keras model are for innaprop.keras.INNAprop"
            if type(variable).__module__.startswith("keras")
            else ""
        )
        raise TypeError(f"variables must be tf.Variable, got {variable!r}{hint}")
    if variable.dtype not in _DTYPES:
        raise TypeError(
            f"variables must be float32 or float64, got {variable.name} of {variable.dtype.name}"
        )
    if not variable.shape.is_fully_defined():
        raise ValueError(
            f"variables must have a fully defined shape, got {variable.name} of {variable.shape}"
        )


def _dense(gradient: Any, variable: Any) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    return gradient
