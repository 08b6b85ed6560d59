"""The update of a ``tf.Variable``, for every adapter that has such: step by step, and for XLA.

Both forms are the core's update with the gradient's share of the momentum left for the end. With
w = m' + beta u + lambda theta, the direction of the whole move::

    m     = m + gamma lambda / beta * theta
    w     = m + beta u + (1 - alpha gamma) lambda * theta
    theta = theta - gamma w
    m     = m + gamma (u - alpha w)

which takes fewer passes over memory. The conformance suite holds both forms to the core.
"""

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from innaprop_core import momentum
from innaprop_core import residual as bits


class Scalars(NamedTuple):
    """What one update of one variable needs to know; 0-d tensors of the state's dtype.

    u is computed without bias correction, whose root r these hold.
    """

    correction: Any
    """r^2 = 1 - sigma^k."""
    threshold: Any
    """r eps."""
    impulse: Any
    """r beta: the share of u in w."""
    drive: Any
    """r gamma: the share of u in m."""
    gamma: Any
    """How much of w goes into theta."""
    beta: Any
    """The share of the corrected u in w."""
    friction: Any
    """gamma alpha: how much of w is taken from m."""
    decay_drive: Any
    """gamma lambda / beta: how much of theta goes into m."""
    decay: Any
    """(1 - alpha gamma) lambda: the share of theta in w."""


class Fixed(NamedTuple):
    """What is a number when a function is traced."""

    sigma: float
    """The weight of the old second moment in the new one."""
    eps: float
    """Added to the root of the second moment."""
    decays: bool
    """Whether there is weight decay."""
    goes_back: bool = True
    """Whether XLA's form may find the old parameter from the new one: not if hardly anything of
    it is left there."""


def find_scalars(
    counts: list[Any],
    dtype: Any,
    *,
    gamma: Any,
    alpha: Any,
    beta: Any,
    sigma: float,
    eps: float,
    weight_decay: float,
) -> list[Scalars]:
    """Return the scalars of each variable.

    Args:
        counts: For each variable the number of this update, 1 at the first; int64 tensors.
        dtype: The dtype of the variables' state.
        gamma: Step size of this update, a 0-d float64 tensor.
        alpha: Viscous damping, a 0-d float64 tensor.
        beta: Newtonian damping, a 0-d float64 tensor.
        sigma: Memory of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: The paper's lambda.
    """
    k = tf.cast(tf.stack(counts), tf.float64)
    roots = tf.sqrt(momentum.bias_correction(sigma, k, tf.math.expm1) * tf.ones_like(k))

    def with_root(root: Any) -> tuple[Any, ...]:
        own = (root * root, root * eps, root * beta, root * gamma)
        return tuple(tf.cast(x, dtype) for x in own)

    def apart(x: Any) -> list[Any]:
        return list(tf.unstack(x, len(counts)))

    # An operation on one number takes TensorFlow as long as one on thousands; XLA computes in
    # place what belongs to a variable.
    own = (
        map(with_root, apart(roots))
        if _in_xla()
        else zip(*map(apart, with_root(roots)), strict=True)
    )
    decay = gamma * weight_decay
    common = (gamma, beta, gamma * alpha, decay / beta, weight_decay - alpha * decay)
    shared = [tf.cast(x, dtype) for x in common]
    return [Scalars(*of_variable, *shared) for of_variable in own]


def update(variable: Any, m: Any, v: Any, residual: Any, g: Any, s: Scalars, fixed: Fixed) -> None:
    """Make one update of a variable and its state.

    Args:
        variable: ``tf.Variable`` of float32, float64 or bfloat16.
        m: Momentum, a ``tf.Variable`` of at least float32.
        v: Second moment, likewise.
        residual: int16 ``tf.Variable`` of a bfloat16 variable, or None.
        g: Dense gradient of m's dtype.
        s: The scalars, in m's dtype.
        fixed: What does not change.
    """
    (_whole if _in_xla() and fixed.goes_back else _in_steps)(variable, m, v, residual, g, s, fixed)


def _in_xla() -> bool:
    # TensorFlow has no public way to ask. Only speed depends on it.
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def join(parameter: Any, residual: Any) -> Any:
    """Return the float32 that a parameter and its residual are.

    Args:
        parameter: bfloat16 tensor, of any shape.
        residual: int16 tensor, of the same shape.
    """
    base = tf.bitcast(tf.cast(parameter, tf.float32), tf.int32)
    return tf.bitcast(bits.join(base, tf.cast(residual, tf.int32), tf.where), tf.float32)


def split(value: Any) -> tuple[Any, Any]:
    """Return the bfloat16 parameter, and the int16 residual, that a float32 is made of.

    Args:
        value: float32 tensor, of any shape.
    """
    parameter, residual = bits.split(tf.bitcast(value, tf.int32), tf.where)
    return tf.cast(tf.bitcast(parameter, tf.float32), tf.bfloat16), tf.cast(residual, tf.int16)


def read(variable: Any, residual: Any, dtype: Any) -> Any:
    """Return the value of a variable with its residual, if it has one, in this dtype."""
    value = tf.convert_to_tensor(variable)
    if residual is not None:
        return join(value, tf.convert_to_tensor(residual))
    return value if value.dtype == dtype else tf.cast(value, dtype)


def _write(variable: Any, residual: Any, value: Any) -> None:
    if residual is not None:
        value, remainder = split(value)
        residual.assign(remainder)
    variable.assign(tf.cast(value, variable.dtype))


def _in_steps(
    variable: Any, m: Any, v: Any, residual: Any, g: Any, s: Scalars, fixed: Fixed
) -> None:
    """Update in place where an operation can, so that it reads and writes once."""
    if fixed.sigma >= 0.5:
        _add(v, (1 - fixed.sigma), tf.square(g) - v)
    else:
        v.assign(_average(v, g, fixed))
    u = g / (tf.sqrt(v) + s.threshold)
    if fixed.decays:
        theta = read(variable, residual, m.dtype)
        _add(m, s.decay_drive, theta)
        w = tf.add_n([tf.convert_to_tensor(m), s.impulse * u, s.decay * theta])
        del theta  # An operation writes in place where nobody else holds the value.
    else:
        w = m + s.impulse * u
    if variable.dtype == m.dtype:
        _add(variable, -s.gamma, w)
    else:
        _write(variable, residual, read(variable, residual, m.dtype) - s.gamma * w)
    _add(m, -s.friction, w)
    _add(m, s.drive, u)


def _whole(variable: Any, m: Any, v: Any, residual: Any, g: Any, s: Scalars, fixed: Fixed) -> None:
    """Update by expressions that XLA turns into one loop for each of theta, m and v.

    A loop writes over its variable, so what a later one needs of the old value has to be found
    from the new one, or XLA copies: m takes its share of theta as that was before the move. The
    division is by about 1 - gamma lambda.
    """
    theta, old = read(variable, residual, m.dtype), tf.convert_to_tensor(m)
    new_v = _average(v, g, fixed)
    u = g / (tf.sqrt(new_v) + s.threshold)
    move, friction = old + s.impulse * u, s.friction
    if fixed.decays:
        share = s.decay_drive + s.decay
        kept = (s.decay_drive - s.friction * share) / (1 - s.gamma * share)
        move, friction = move + share * theta, s.friction - s.gamma * kept
    theta = theta - s.gamma * move
    # XLA stores what it sees used twice. So u is written in another way, and used once.
    u = g / (tf.sqrt(new_v / s.correction) + fixed.eps)
    new_m = old - friction * old + (s.gamma - friction * s.beta) * u
    if fixed.decays:
        new_m = new_m + kept * theta
    v.assign(new_v)
    _write(variable, residual, theta)
    m.assign(new_m)


def _average(v: Any, g: Any, fixed: Fixed) -> Any:
    """Return the new second moment as the core does, from the side of the larger weight."""
    squared = tf.square(g)
    if fixed.sigma >= 0.5:
        return v + (1 - fixed.sigma) * (squared - v)
    return squared + fixed.sigma * (v - squared)


def _add(variable: Any, factor: Any, value: Any) -> None:
    """Add a multiple to a variable, in one operation where ``assign_add`` would take two."""
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=tf.convert_to_tensor(-factor, value.dtype), delta=value
    )
