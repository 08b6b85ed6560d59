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
    restores it whole; a restore may come before the state exists.

    Args:
        learning_rate: The paper's gamma, in [0, beta); a float (kept in a ``tf.Variable``,
            settable later), a ``tf.Variable``, or a callable that takes ``iterations`` and
            returns a scalar. Default 1e-3.
        alpha: Viscous damping, >= 0. Default 0.1.
        beta: Newtonian damping, > 0. Default 0.9.
        sigma: Memory of the second moment, in [0, 1). Default 0.999.
        epsilon: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0. Default
            0.01.
        name: Name of the module. Default "INNAprop".

    Attributes:
        iterations: Updates made, a ``tf.Variable`` of int64.
        momentums: The momentum of every variable met so far, in that order.
        second_moments: Likewise the second moment.

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

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> Any:
        """Make one update.

        Args:
            grads_and_vars: Pairs of gradient and ``tf.Variable``. A gradient has its
                variable's shape and dtype; ``tf.IndexedSlices`` are made dense; None leaves
                its variable as it is, with a warning that names it.

        Returns:
            ``iterations``.

        Raises:
            TypeError: A variable is not a float32 or float64 ``tf.Variable``, or a gradient
                has another dtype.
            ValueError: There is no gradient at all, a variable comes twice, or a gradient
                has another shape than its variable. Nothing has changed then.

        Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
        """
        pairs = _checked_pairs(grads_and_vars)
        for _, variable in pairs:
            self._make_state(variable)
        coefficients = {
            dtype: self._coefficients(dtype) for dtype in {variable.dtype for _, variable in pairs}
        }
        for gradient, variable in pairs:
            i = self._index[variable]
            m, v = self.momentums[i], self.second_moments[i]
            theta, new_m, new_v = momentum.step(
                tf.convert_to_tensor(variable),
                tf.convert_to_tensor(m),
                tf.convert_to_tensor(v),
                tf.convert_to_tensor(gradient),
                coefficients[variable.dtype],
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
            parameter: A ``tf.Variable`` that the optimizer has updated.

        Returns:
            A tensor of the variable's shape and dtype.

        Raises:
            ValueError: The optimizer has not met this variable.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        if parameter not in self._index:
            raise ValueError(
                f"parameter must be a variable that the optimizer has updated, got {parameter!r}"
            )
        return momentum.psi_from_momentum(
            tf.convert_to_tensor(parameter),
            tf.convert_to_tensor(self.momentums[self._index[parameter]]),
            alpha=self.alpha,
            beta=self.beta,
        )

    def _make_state(self, variable: Any) -> None:
        if variable in self._index:
            return
        # Outside of the function being traced, which may not create variables twice.
        with tf.init_scope():
            for name, variables in (
                ("momentum", self.momentums),
                ("second_moment", self.second_moments),
            ):
                variables.append(
                    tf.Variable(
                        tf.zeros(variable.shape, variable.dtype),
                        trainable=False,
                        name=f"{variable.name.partition(':')[0]}/{name}",
                    )
                )
        self._index.append(variable)

    def _coefficients(self, dtype: Any) -> momentum.Coefficients:
        return momentum.coefficients(
            tf.cast(self.iterations + 1, dtype),
            gamma=tf.cast(self.learning_rate, dtype),
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
        if not isinstance(variable, tf.Variable):
            raise TypeError(
                f"grads_and_vars must pair gradients with tf.Variable, got {variable!r}"
            )
        if variable.dtype not in _DTYPES:
            raise TypeError(
                f"variables must be float32 or float64, got {variable.name} of "
                f"{variable.dtype.name}"
            )
        if variable.ref() in seen:
            raise ValueError(f"grads_and_vars must name a variable once, got {variable.name} twice")
        seen.add(variable.ref())
        if gradient is None:
            without.append(variable.name)
            continue
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
