"""TensorFlow, on a ``tf.Variable`` and its state: operation by operation, or for XLA.

Operation by operation this is the core's update with the gradient's share of the momentum left for
the end. With w = m' + beta u + lambda theta, the direction of the whole move::

    m     = m + (decay_drive + friction lambda) theta
    w     = m + beta u + (1 - friction) lambda theta
    theta = theta - gamma w
    m     = m - friction w + gamma u

which takes fewer passes over memory, some of them in place.
"""

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import tensorflow as tf

from innaprop.forms import Form, Row, looking_back, residual
from innaprop_core import momentum
from innaprop_core.momentum import Coefficients

FORM = Form(
    framework="tensorflow",
    compiler="none",
    moves="140",
    temporaries="16",
    valid="everywhere",
    in_place=True,
    reads_scalars=False,
)
Update = Callable[[Row], None]


def join(parameter: Any, remainder: Any) -> Any:
    """Return the float32 that a bfloat16 or float16 tensor and its int16 residual are."""
    return residual.join(parameter, remainder, parameter.dtype.name, _OPERATIONS)


def split(value: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the tensor of a 16-bit dtype, and the int16 residual, that a float32 is made of."""
    return residual.split(value, tf.as_dtype(dtype).name, _OPERATIONS)


def widen(parameter: Any) -> Any:
    """Return a bfloat16 or float16 tensor as float32, from its bits."""
    bits = tf.cast(tf.bitcast(parameter, tf.int16), tf.int32)
    return residual.widen(bits, parameter.dtype.name, _OPERATIONS)


_OPERATIONS = residual.Operations(
    where=tf.where,
    bits=lambda x: tf.bitcast(x, tf.int32),
    real=lambda bits: tf.bitcast(bits, tf.float32),
    integer=lambda x: tf.cast(x, tf.int32),
    floating=lambda x: tf.cast(x, tf.float32),
    widen=widen,
    narrow=lambda x, dtype: tf.cast(x, dtype),
    round=tf.round,
    shift=tf.bitwise.right_shift,
)


def read(variable: Any, remainder: Any, dtype: Any) -> Any:
    """Return the value of a variable with its residual, if it has one, in this dtype."""
    value = tf.convert_to_tensor(variable)
    if remainder is not None:
        return join(value, tf.convert_to_tensor(remainder))
    return value if value.dtype == dtype else tf.cast(value, dtype)


def in_xla() -> bool:
    """Return whether XLA will compile what is being traced. Only speed depends on it.

    TensorFlow has no public way to ask. Where the private one is gone, the answer is no.
    """
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        return False
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def updates(c: Coefficients, count: int, dtype: Any, looks_back: bool) -> list[Update]:
    """Return for each of some variables what makes its update.

    That takes a row: a floating ``tf.Variable``, its dense gradient of m's dtype, m and v as
    ``tf.Variable`` of at least float32, and of a 16-bit variable the residual, an int16
    ``tf.Variable``, or None. It writes into all but the gradient.

    Args:
        c: The scalars of this update, numbers or 0-d float64 tensors; the bias correction may be a
            vector with one element per variable.
        count: How many variables there are.
        dtype: The dtype of their m and v.
        looks_back: Whether ``looking_back`` is valid, and XLA compiles.
    """
    corrections = tf.broadcast_to(tf.convert_to_tensor(c.bias_correction, tf.float64), [count])
    if looks_back:
        # XLA computes in place what belongs to one variable.
        of_all = Coefficients(*(_cast(x, dtype) for x in c._replace(bias_correction=1.0)))
        own = tf.unstack(tf.cast(corrections, dtype), count)
        return [partial(_look_back, c=of_all._replace(bias_correction=own_)) for own_ in own]
    # An operation on one number takes TensorFlow as long as one on thousands.
    roots = tf.sqrt(corrections)
    beta = tf.math.divide_no_nan(c.impulse, c.gamma)
    of_each = (tf.cast(roots * x, dtype) for x in (c.eps, beta, c.gamma))
    apart = zip(*(tf.unstack(x, count) for x in of_each), strict=True)
    common: tuple[Any, ...] = (tf.cast(c.gamma, dtype), tf.cast(c.friction, dtype), None, None)
    if not looking_back.is_zero(c.decay):
        decay = tf.math.divide_no_nan(c.decay, c.gamma)
        shares = c.decay_drive + c.friction * decay, decay - c.friction * decay
        common = *common[:2], *(tf.cast(x, dtype) for x in shares)
    return [partial(_in_steps, c=c, s=_Scalars(*of_variable, *common)) for of_variable in apart]


class _Scalars(NamedTuple):
    """0-d tensors of the state's dtype. u is computed without bias correction, whose root is r."""

    eps: Any
    """r eps."""
    impulse: Any
    """r beta: the share of u in w."""
    drive: Any
    """r gamma: the share of u in m."""
    gamma: Any
    """How much of w goes into theta."""
    friction: Any
    """How much of w is taken from m."""
    decay_drive: Any
    """How much of theta goes into m before w is found; None without decay."""
    decay: Any
    """The share of theta in w; likewise."""


def _in_steps(row: Row, c: Coefficients, s: _Scalars) -> None:
    """Update in place where an operation can, so that it reads and writes once."""
    theta, g, m, v, remainder = row
    if c.averaging <= c.memory:
        _add(v, c.averaging, tf.square(g) - v)
    else:
        v.assign(momentum.average(v, tf.square(g), c))
    u = g / (tf.sqrt(v) + s.eps)
    if s.decay is None:
        w = m + s.impulse * u
    else:
        value = read(theta, remainder, m.dtype)
        _add(m, s.decay_drive, value)
        w = tf.add_n([tf.convert_to_tensor(m), s.impulse * u, s.decay * value])
        del value  # An operation writes in place where nobody else holds the value.
    if theta.dtype == m.dtype:
        _add(theta, -s.gamma, w)
    else:
        _write(theta, remainder, read(theta, remainder, m.dtype) - s.gamma * w)
    _add(m, -s.friction, w)
    _add(m, s.drive, u)


def _look_back(row: Row, c: Coefficients) -> None:
    """Update by expressions that XLA turns into one loop for each of theta, m and v."""
    theta = read(row.theta, row.residual, row.m.dtype)
    values = Row(theta, row.g, tf.convert_to_tensor(row.m), tf.convert_to_tensor(row.v))
    change, m, v = looking_back.update(values, c, tf.sqrt)
    row.v.assign(v)
    _write(row.theta, row.residual, theta + change)
    row.m.assign(m)


def _write(variable: Any, remainder: Any, value: Any) -> None:
    if remainder is not None:
        value, rest = split(value, variable.dtype)
        remainder.assign(rest)
    variable.assign(tf.cast(value, variable.dtype))


def _add(variable: Any, factor: Any, value: Any) -> None:
    """Add a multiple to a variable, in one operation where ``assign_add`` would take two."""
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=tf.convert_to_tensor(-factor, value.dtype), delta=value
    )


def _cast(scalar: Any, dtype: Any) -> Any:
    # A number keeps its digits, and a zero stays known.
    return scalar if isinstance(scalar, Real) else tf.cast(scalar, dtype)
