"""TensorFlow, on a ``tf.Variable`` and its state: operation by operation, or for XLA.

A packed state is a ``tf.Variable`` of words in place of the momentum, and None in place of the
second moment. Its update has about sixty operations and is compiled by XLA if available, even in an
eager loop.

Operation by operation, the core's update is rearranged so that u is added to the momentum last.
With w = m' + beta u, the direction of the step without weight decay::

    m     = m + decay_drive theta
    w     = m + beta u
    theta = theta - gamma (w + lambda theta)
    m     = m - friction w + gamma u

which takes fewer passes over memory, some of them in place.
"""

from collections.abc import Callable
from functools import cache, partial
from numbers import Real
from typing import Any, NamedTuple

import tensorflow as tf

from innaprop.forms import Form, Row, looking_back
from innaprop.forms import residual as residuals
from innaprop_core import momentum, packed
from innaprop_core.momentum import Coefficients

FORM = Form(
    framework="tensorflow",
    compiler="none",
    moves="148",
    temporaries="16",
    valid="everywhere",
    in_place=True,
    reads_scalars=False,
)
RowUpdate = Callable[[Row], None]


def join(parameter: Any, residual: Any) -> Any:
    """Return the float32 value of a bfloat16 or float16 tensor and its int16 residual."""
    return residuals.join(parameter, residual, parameter.dtype.name, _OPERATIONS)


def split(value: Any, dtype: Any) -> tuple[Any, Any]:
    """Split a float32 into a tensor of a 16-bit dtype and its int16 residual."""
    return residuals.split(value, tf.as_dtype(dtype).name, _OPERATIONS)


def to_float32(parameter: Any) -> Any:
    """Return a bfloat16 or float16 tensor as float32, by operations on its bits."""
    bits = tf.cast(tf.bitcast(parameter, tf.int16), tf.int32)
    return residuals.to_float32(bits, parameter.dtype.name, _OPERATIONS)


_OPERATIONS = residuals.Operations(
    where=tf.where,
    bits=lambda x: tf.bitcast(x, tf.int32),
    real=lambda bits: tf.bitcast(bits, tf.float32),
    integer=lambda x: tf.cast(x, tf.int32),
    floating=lambda x: tf.cast(x, tf.float32),
    to_float32=to_float32,
    narrow=lambda x, dtype: tf.cast(x, dtype),
    round=tf.round,
    shift=tf.bitwise.right_shift,
)


def read(variable: Any, residual: Any, dtype: Any) -> Any:
    """Return the value of a variable, with its residual if it has one, in a dtype."""
    value = tf.convert_to_tensor(variable)
    if residual is not None:
        return join(value, tf.convert_to_tensor(residual))
    return value if value.dtype == dtype else tf.cast(value, dtype)


WORDS = tf.uint32
"""Dtype of packed words; not int32, which TensorFlow keeps in host memory."""


def moments(m: Any, v: Any) -> tuple[Any, Any]:
    """Return momentum and second moment as tensors, unpacked from the words m if v is None."""
    m = tf.convert_to_tensor(m)
    if v is not None:
        return m, tf.convert_to_tensor(v)
    return packed.unpack(tf.bitcast(m, tf.int32), _OPERATIONS)


def pack(m: Any, v: Any, draw: Any) -> Any:
    """Pack a float32 momentum and second moment into words, with stochastic rounding.

    Args:
        m: Momentum; tensor of any shape, fully defined.
        v: Second moment, likewise.
        draw: Number of the random draw, from ``innaprop_core.packed.draw``; a number or 0-d tensor.

    Returns:
        uint32 tensor of that shape.
    """
    m = tf.convert_to_tensor(m)
    indices = tf.reshape(tf.range(m.shape.num_elements(), dtype=tf.int32), m.shape)
    offset = packed.turn_of(tf.cast(draw, tf.int32), _OPERATIONS)
    return tf.bitcast(packed.pack(m, v, packed.thresholds(indices, offset), _OPERATIONS), WORDS)


def in_xla() -> bool:
    """Return whether XLA will compile the function that is being traced. Affects only speed.

    TensorFlow has no public way to ask. If the private one does not exist, the answer is no.
    """
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        return False
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def row_updates(
    c: Coefficients, count: int, dtype: Any, looks_back: bool, packs: bool = False
) -> list[RowUpdate]:
    """Return a function for each variable that updates its row.

    The row: a floating ``tf.Variable``; its dense gradient, of m's dtype; m and v as
    ``tf.Variable`` of at least float32, or words and None; and the residual of a 16-bit variable,
    an int16 ``tf.Variable``, or None. All but the gradient are assigned to.

    Args:
        c: The scalars of this update, numbers or 0-d float64 tensors; bias correction and draw may
            be vectors with one element per variable.
        count: Number of variables.
        dtype: The dtype of their m and v; float32 for packed words.
        looks_back: Whether ``looking_back`` is valid and XLA compiles the function.
        packs: Whether their states are packed. Default False.
    """
    corrections = tf.broadcast_to(tf.convert_to_tensor(c.bias_correction, tf.float64), [count])
    if looks_back or packs:
        # With scalars per variable, XLA can update each variable in place.
        shared = c._replace(bias_correction=1.0, draw=0.0)
        of_all = Coefficients(*(_cast(x, dtype) for x in shared))
        own = tf.unstack(tf.cast(corrections, dtype), count)
        draws = tf.unstack(tf.broadcast_to(tf.cast(c.draw, tf.int32), [count])) if packs else own
        compiles = packs and not in_xla() and _has_xla()
        update = _compiled if compiles else partial(_fused, looks_back=looks_back)
        return [
            partial(update, c=of_all._replace(bias_correction=correction, draw=draw))
            for correction, draw in zip(own, draws, strict=True)
        ]
    # As vectors: an operation on one number costs TensorFlow as much as one on thousands.
    roots = tf.sqrt(corrections)
    beta = tf.math.divide_no_nan(c.impulse, c.gamma)
    of_each = (tf.cast(roots * x, dtype) for x in (c.eps, beta, c.gamma))
    apart = zip(*(tf.unstack(x, count) for x in of_each), strict=True)
    decay_drive, decay = None, None
    if not looking_back.is_zero(c.decay_drive):
        decay_drive = tf.cast(c.decay_drive, dtype)
    if not looking_back.is_zero(c.decay):
        decay = tf.cast(tf.math.divide_no_nan(c.decay, c.gamma), dtype)
    gamma, friction = tf.cast(c.gamma, dtype), tf.cast(c.friction, dtype)
    common: tuple[Any, ...] = gamma, friction, decay_drive, decay
    return [partial(_op_by_op, c=c, s=_Scalars(*of_variable, *common)) for of_variable in apart]


class _Scalars(NamedTuple):
    """0-d tensors of the compute dtype. u is computed without bias correction, whose root is r."""

    eps: Any
    """r eps."""
    impulse: Any
    """r beta: the factor of u in w."""
    drive: Any
    """r gamma: the factor of u in m."""
    gamma: Any
    """The factor of the direction, with weight decay, in theta's update."""
    friction: Any
    """The factor of w that is subtracted from m."""
    decay_drive: Any
    """The factor of theta that is added to m before w is computed; None if weight
    decay does not reach m."""
    decay: Any
    """lambda: the factor of theta in that direction; None without weight decay."""


def _op_by_op(row: Row, c: Coefficients, s: _Scalars) -> None:
    """Update operation by operation, in place where TensorFlow has an operation for it."""
    theta, g, m, v, residual = row
    if c.averaging <= c.memory:
        _add(v, c.averaging, tf.square(g) - v)
    else:
        v.assign(momentum.average(v, tf.square(g), c))
    u = g / (tf.sqrt(v) + s.eps)
    value = None if s.decay is None else read(theta, residual, m.dtype)
    if s.decay_drive is not None:
        _add(m, s.decay_drive, value)
    w = direction = m + s.impulse * u
    if value is not None:
        direction = w + s.decay * value
    if theta.dtype == m.dtype:
        del value  # TensorFlow reuses a buffer that is not referenced elsewhere.
        _add(theta, -s.gamma, direction)
    else:
        value = read(theta, residual, m.dtype) if value is None else value
        _write(theta, residual, value - s.gamma * direction)
    _add(m, -s.friction, w)
    _add(m, s.drive, u)


def _fused(row: Row, c: Coefficients, looks_back: bool) -> None:
    """Update by expressions that XLA fuses into one loop for each variable."""
    theta = read(row.theta, row.residual, row.g.dtype)
    m, v = moments(row.m, row.v)
    if looks_back:
        change, m, v = looking_back.update(Row(theta, row.g, m, v), c, tf.sqrt)
        theta = theta + change
    else:
        theta, m, v = momentum.step(theta, m, v, row.g, c, tf.sqrt)
    if row.v is not None:
        row.v.assign(v)
    _write(row.theta, row.residual, theta)
    row.m.assign(m if row.v is not None else pack(m, v, c.draw))


def _compiled(row: Row, c: Coefficients) -> None:
    """Update a row with a packed state by a function that XLA compiles."""
    theta, g, words, _, residual = row
    values = [None if x is None else tf.convert_to_tensor(x) for x in (theta, residual, g, words)]
    function = _compiled_function(theta.dtype, theta.shape, residual is not None)
    new_theta, new_residual, new_words = function(*values, c)
    if residual is not None:
        residual.assign(new_residual)
    theta.assign(new_theta)
    words.assign(new_words)


@cache
def _compiled_function(dtype: Any, shape: Any, with_residual: bool) -> Any:
    """Return ``_step_packed`` compiled, a separate function for each kind of variable.

    TensorFlow counts retracings by the function's code object and would warn; a partial has none.
    """
    return tf.function(partial(_step_packed), jit_compile=True, autograph=False)


def _step_packed(theta: Any, residual: Any, g: Any, words: Any, c: Coefficients) -> Any:
    """Return parameter, residual and packed words after the update."""
    dtype = theta.dtype
    value = read(theta, residual, g.dtype)
    value, m, v = momentum.step(value, *moments(words, None), g, c, tf.sqrt)
    if residual is not None:
        theta, residual = split(value, dtype)
    else:
        theta = tf.cast(value, dtype)
    return theta, residual, pack(m, v, c.draw)


@cache
def _has_xla() -> bool:
    """Return whether this TensorFlow build has XLA."""
    with tf.init_scope():
        try:
            tf.function(tf.identity, jit_compile=True)(tf.constant(0.0))
        except tf.errors.OpError:
            return False
    return True


def _write(variable: Any, residual: Any, value: Any) -> None:
    if residual is not None:
        value, rest = split(value, variable.dtype)
        residual.assign(rest)
    variable.assign(tf.cast(value, variable.dtype))


def _add(variable: Any, factor: Any, value: Any) -> None:
    """Add factor * value to a variable in one operation; ``assign_add`` would take two."""
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=tf.convert_to_tensor(-factor, value.dtype), delta=value
    )


def _cast(scalar: Any, dtype: Any) -> Any:
    # A Python number keeps its precision, and zero stays recognisable.
    return scalar if isinstance(scalar, Real) else tf.cast(scalar, dtype)
