"""TensorFlow, on a ``tf.Variable`` and its state: operation by operation, or for XLA.

A state of 16 bits is a ``tf.Variable`` of words in the place of the momentum, and there is none in
that of the second moment. Its update, of some sixty operations, is compiled by XLA where there is
one, also in an eager loop.

Operation by operation this is the core's update with the gradient's share of the momentum left for
the end. With w = m' + beta u + lambda theta, the direction of the whole move::

    m     = m + (decay_drive + friction lambda) theta
    w     = m + beta u + (1 - friction) lambda theta
    theta = theta - gamma w
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
    moves="140",
    temporaries="16",
    valid="everywhere",
    in_place=True,
    reads_scalars=False,
)
RowUpdate = Callable[[Row], None]


def join(parameter: Any, residual: Any) -> Any:
    """Return the float32 that a bfloat16 or float16 tensor and its int16 residual are."""
    return residuals.join(parameter, residual, parameter.dtype.name, _OPERATIONS)


def split(value: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the tensor of a 16-bit dtype, and the int16 residual, that a float32 is made of."""
    return residuals.split(value, tf.as_dtype(dtype).name, _OPERATIONS)


def to_float32(parameter: Any) -> Any:
    """Return a bfloat16 or float16 tensor as float32, from its bits."""
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
    """Return the value of a variable with its residual, if it has one, in this dtype."""
    value = tf.convert_to_tensor(variable)
    if residual is not None:
        return join(value, tf.convert_to_tensor(residual))
    return value if value.dtype == dtype else tf.cast(value, dtype)


WORDS = tf.uint32
"""Dtype of words: TensorFlow keeps variables of int32 in the host's memory."""


def moments(m: Any, v: Any) -> tuple[Any, Any]:
    """Return momentum and second moment as tensors: of words, if v is None, what they hold."""
    m = tf.convert_to_tensor(m)
    if v is not None:
        return m, tf.convert_to_tensor(v)
    return packed.unpack(tf.bitcast(m, tf.int32), _OPERATIONS)


def pack(m: Any, v: Any, draw: Any) -> Any:
    """Return the words that hold a float32 momentum and second moment, rounded.

    Args:
        m: Momentum; tensor of any shape, fully defined.
        v: Second moment, likewise.
        draw: Number of the draw, from ``innaprop_core.packed.draw``; a number or a 0-d tensor.

    Returns:
        uint32 tensor of that shape.
    """
    m = tf.convert_to_tensor(m)
    indices = tf.reshape(tf.range(m.shape.num_elements(), dtype=tf.int32), m.shape)
    offset = packed.turn_of(tf.cast(draw, tf.int32), _OPERATIONS)
    return tf.bitcast(packed.pack(m, v, packed.thresholds(indices, offset), _OPERATIONS), WORDS)


def in_xla() -> bool:
    """Return whether XLA will compile what is being traced. Only speed depends on it.

    TensorFlow has no public way to ask. Where the private one is gone, the answer is no.
    """
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        return False
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def row_updates(
    c: Coefficients, count: int, dtype: Any, looks_back: bool, packs: bool = False
) -> list[RowUpdate]:
    """Return for each of some variables what makes its update.

    That takes a row: a floating ``tf.Variable``, its dense gradient of m's dtype, m and v as
    ``tf.Variable`` of at least float32, or words and None, and of a 16-bit variable the residual,
    an int16 ``tf.Variable``, or None. It writes into all but the gradient.

    Args:
        c: The scalars of this update, numbers or 0-d float64 tensors; bias correction and draw may
            be vectors with one element per variable.
        count: How many variables there are.
        dtype: The dtype of their m and v; float32 of words.
        looks_back: Whether ``looking_back`` is valid, and XLA compiles.
        packs: Whether their states are words. Default False.
    """
    corrections = tf.broadcast_to(tf.convert_to_tensor(c.bias_correction, tf.float64), [count])
    if looks_back or packs:
        # XLA computes in place what belongs to one variable.
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
    return [partial(_op_by_op, c=c, s=_Scalars(*of_variable, *common)) for of_variable in apart]


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


def _op_by_op(row: Row, c: Coefficients, s: _Scalars) -> None:
    """Update in place where an operation can, so that it reads and writes once."""
    theta, g, m, v, residual = row
    if c.averaging <= c.memory:
        _add(v, c.averaging, tf.square(g) - v)
    else:
        v.assign(momentum.average(v, tf.square(g), c))
    u = g / (tf.sqrt(v) + s.eps)
    if s.decay is None:
        w = m + s.impulse * u
    else:
        value = read(theta, residual, m.dtype)
        _add(m, s.decay_drive, value)
        w = tf.add_n([tf.convert_to_tensor(m), s.impulse * u, s.decay * value])
        del value  # An operation writes in place where nobody else holds the value.
    if theta.dtype == m.dtype:
        _add(theta, -s.gamma, w)
    else:
        _write(theta, residual, read(theta, residual, m.dtype) - s.gamma * w)
    _add(m, -s.friction, w)
    _add(m, s.drive, u)


def _fused(row: Row, c: Coefficients, looks_back: bool) -> None:
    """Update by expressions that XLA turns into one loop for each variable it writes."""
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
    """Update a row whose state is words by a function that XLA compiles."""
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
    """Return ``_step_packed`` compiled, a function of its own for each kind of variable.

    TensorFlow warns of functions that are traced often, which it tells apart by their code: a
    partial has none.
    """
    return tf.function(partial(_step_packed), jit_compile=True, autograph=False)


def _step_packed(theta: Any, residual: Any, g: Any, words: Any, c: Coefficients) -> Any:
    """Return parameter, residual and words after the update."""
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
    """Return whether this TensorFlow can compile by XLA."""
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
    """Add a multiple to a variable, in one operation where ``assign_add`` would take two."""
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=tf.convert_to_tensor(-factor, value.dtype), delta=value
    )


def _cast(scalar: Any, dtype: Any) -> Any:
    # A number keeps its digits, and a zero stays known.
    return scalar if isinstance(scalar, Real) else tf.cast(scalar, dtype)
