"""INNAprop as a ``keras.optimizers.Optimizer``, on every Keras backend."""

from numbers import Real
from typing import Any

import keras
from keras import ops

from innaprop_core import check_hyperparameters, momentum

__all__ = ["INNAprop"]

_NAMES = {"gamma": "learning_rate", "eps": "epsilon"}
_DTYPES = ("float32", "float64")


@keras.saving.register_keras_serializable(package="innaprop")
class INNAprop(keras.optimizers.Optimizer):
    """INNAprop, with AdamW's memory: two variables of state per model variable.

    Args:
        learning_rate: The paper's gamma, in [0, beta); a float, a
            ``keras.optimizers.schedules.LearningRateSchedule`` or a callable without
            arguments. Default 1e-3.
        alpha: Viscous damping, >= 0. Default 0.1.
        beta: Newtonian damping, > 0. Default 0.9.
        sigma: Memory of the second moment, in [0, 1). Default 0.999.
        epsilon: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay per unit of learning rate, the paper's lambda, >= 0; None is 0.
            It reaches the momentum too, as Algorithm 1 says. Default 0.01.
        name: Name of the optimizer. Default "innaprop".
        **keras_kwargs: What every Keras optimizer takes: ``clipnorm``, ``clipvalue``,
            ``global_clipnorm``, ``use_ema``, ``ema_momentum``, ``ema_overwrite_frequency``,
            ``loss_scale_factor``, ``gradient_accumulation_steps``.

    Raises:
        TypeError: An argument is not a number; at build, a variable is not float32 or
            float64.
        ValueError: An argument is outside its range, or learning_rate >= beta.

    The arithmetic is done in each variable's dtype. Keras holds the learning rate in
    ``keras.config.floatx()``: in float64 work set that to "float64" too. As in every Keras
    optimizer, Algorithm 1's count k is ``iterations`` for all variables: one that gets its first
    gradient late has its second moment corrected as if it had been there from the start.

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
        alpha: float = 0.1,
        beta: float = 0.9,
        sigma: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float | None = 0.01,
        name: str = "innaprop",
        **keras_kwargs: Any,
    ) -> None:
        values: dict[str, Any] = {
            "alpha": alpha,
            "beta": beta,
            "sigma": sigma,
            "eps": epsilon,
            "weight_decay": 0.0 if weight_decay is None else weight_decay,
        }
        if not callable(learning_rate):
            values["gamma"] = learning_rate
        check_hyperparameters(values, _NAMES)
        if isinstance(learning_rate, Real):
            learning_rate = float(learning_rate)
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=None if weight_decay is None else float(weight_decay),
            name=name,
            **keras_kwargs,
        )
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.sigma = float(sigma)
        self.epsilon = float(epsilon)

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next update.

        Raises:
            ValueError: On setting, a number is not in [0, beta).
        """
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        if isinstance(learning_rate, Real):
            check_hyperparameters({"gamma": learning_rate, "beta": self.beta}, _NAMES)
        keras.optimizers.Optimizer.learning_rate.fset(self, learning_rate)

    def build(self, variables: Any) -> None:
        """Create momentum and second moment, both zero, for every variable.

        Args:
            variables: The model's trainable variables, float32 or float64.

        Raises:
            TypeError: A variable is of another dtype.
        """
        if self.built:
            return
        for variable in variables:
            if keras.backend.standardize_dtype(variable.dtype) not in _DTYPES:
                raise TypeError(
                    f"variables must be float32 or float64, got {variable.path} of "
                    f"{variable.dtype}; the mixed_bfloat16 and mixed_float16 dtype policies "
                    "keep variables in float32"
                )
        super().build(variables)
        self._momentums, self._second_moments = self.add_optimizer_variables(
            variables, ["momentum", "second_moment"]
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Make one update of one variable; Keras calls this.

        Args:
            gradient: Tensor of the variable's shape; sparse ones are made dense.
            variable: Model variable, float32 or float64.
            learning_rate: Step size of this update, a 0-d tensor.

        Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
        """
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._second_moments[index]
        decays = self.weight_decay is not None and self._use_weight_decay(variable)
        if isinstance(learning_rate, Real):
            # A cast would take a Python number through float32.
            learning_rate = ops.convert_to_tensor(learning_rate, dtype)
        c = momentum.coefficients(
            ops.cast(self.iterations + 1, dtype),
            gamma=ops.cast(learning_rate, dtype),
            alpha=self.alpha,
            beta=self.beta,
            sigma=self.sigma,
            eps=self.epsilon,
            weight_decay=self.weight_decay if decays else 0.0,
            expm1=ops.expm1,
        )
        theta, new_m, new_v = momentum.step(
            _value(variable),
            _value(m),
            _value(v),
            ops.cast(_dense(gradient, variable), dtype),
            c,
            ops.sqrt,
        )
        self.assign(m, new_m)
        self.assign(v, new_v)
        self.assign(variable, theta)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do nothing: the decay is part of the update, since it reaches the momentum."""

    def psi(self, parameter: Any) -> Any:
        """Return the paper's psi of a variable.

        Args:
            parameter: One of the variables that the optimizer was built with.

        Returns:
            A tensor of the variable's shape and dtype.

        Raises:
            ValueError: The optimizer was not built with this variable.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        self._check_variables_are_known([parameter])
        m = self._momentums[self._get_variable_index(parameter)]
        return momentum.psi_from_momentum(
            ops.stop_gradient(ops.convert_to_tensor(parameter)),
            ops.convert_to_tensor(m),
            alpha=self.alpha,
            beta=self.beta,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this optimizer again, as Keras serializes them."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "sigma": self.sigma,
            "epsilon": self.epsilon,
        }


def _value(variable: Any) -> Any:
    # The backend's own object, whose operators are the backend's: those of a Keras variable on
    # TensorFlow take some sums of empty tensors for a bias, and fail.
    return variable.value if isinstance(variable, keras.Variable) else variable


def _dense(gradient: Any, variable: Any) -> Any:
    # Keras has sparse gradients on TensorFlow and JAX (on PyTorch, dense tensors have
    # ``indices`` too). Its addition knows all their types; its conversion to a tensor does not.
    if keras.backend.backend() != "torch" and hasattr(gradient, "indices"):
        return ops.add(gradient, ops.zeros(variable.shape, gradient.dtype))
    return ops.convert_to_tensor(gradient)
