"""One update of a list of tensors on a GPU: the formula of innaprop_core.momentum.step.

Every value is read and written once. Launched by ``triton.py``.
"""

import triton
import triton.language as tl

from innaprop.forms.triton import SCALARS

GAMMA = tl.constexpr(SCALARS.index("gamma"))
DECAY = tl.constexpr(SCALARS.index("decay"))
DECAY_DRIVE = tl.constexpr(SCALARS.index("decay_drive"))
IMPULSE = tl.constexpr(SCALARS.index("impulse"))
FRICTION = tl.constexpr(SCALARS.index("friction"))
DRIVE = tl.constexpr(SCALARS.index("drive"))
MEMORY = tl.constexpr(SCALARS.index("memory"))
AVERAGING = tl.constexpr(SCALARS.index("averaging"))
BIAS_CORRECTION = tl.constexpr(SCALARS.index("bias_correction"))
EPS = tl.constexpr(SCALARS.index("eps"))
DRAW = tl.constexpr(SCALARS.index("draw"))
GRADIENT_SCALE = tl.constexpr(SCALARS.index("gradient_scale"))
SKIP = tl.constexpr(SCALARS.index("skip"))


@triton.jit
def _pointer(table, i, dtype: tl.constexpr, aligned: tl.constexpr):
    """Return the address of tensor i, as a pointer."""
    pointer = tl.load(table + i).to(tl.pointer_type(dtype))
    # Lets Triton load 16 bytes at a time.
    return tl.multiple_of(pointer, 16) if aligned else pointer


# A 16-bit parameter and its residual represent one float32: see residual.py.


@triton.jit
def _join(p, r):
    base = p.to(tl.float32)
    bits = base.to(tl.int32, bitcast=True)
    finite = (bits & 0x7F800000) != 0x7F800000
    if p.dtype == tl.bfloat16:
        strayed = ((bits & 0x7FFFFFFF) == 0) & (r < 0)
        bits += tl.where(finite & (strayed == 0), r.to(tl.int32), 0)
        return bits.to(tl.float32, bitcast=True)
    return tl.where(finite, base + r.to(tl.float32) * _unit(bits, 1), base)


@triton.jit
def _split(x, dtype: tl.constexpr):
    bits = x.to(tl.int32, bitcast=True)
    if dtype == tl.bfloat16:
        upper = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC00000, (bits + 0x8000) & -0x10000)
        finite = (upper & 0x7F800000) != 0x7F800000
        p = upper.to(tl.float32, bitcast=True).to(tl.bfloat16)
        r = tl.where(finite, bits - upper, 0)
    else:
        p = x.to(tl.float16)
        base = p.to(tl.float32)
        base_bits = base.to(tl.int32, bitcast=True)
        finite = (base_bits & 0x7F800000) != 0x7F800000
        units = (x - base) * _unit(base_bits, -1)
        # Adding and subtracting 1.5 x 2^23 rounds to a whole number.
        units = (units + 12582912.0) - 12582912.0
        r = tl.where(finite, tl.minimum(units, 32767.0), 0.0).to(tl.int32)
    return p, r.to(tl.int16)


@triton.jit
def _unit(bits, power: tl.constexpr):
    """Return 2^-16 of float16's spacing at a float32 of these bits, or the inverse of it."""
    exponent = ((bits >> 23) & 0xFF) - 126
    exponent = tl.maximum(exponent, -13) - 27
    return ((power * exponent + 127) << 23).to(tl.float32, bitcast=True)


# Momentum and second moment packed into one word: see innaprop_core/packed.py.

LOW_OF_M = tl.constexpr(124 << 23)  # The bits of 2^-3.
LOW_OF_V = tl.constexpr(80 << 23)  # Those of 2^-47.
COARSE_OF_V = tl.constexpr(149 << 23)  # Those of 2^22.
CODES_OF_M = tl.constexpr(28672)
LOWEST_M = tl.constexpr(2.0**-3)
LOWEST_V = tl.constexpr(2.0**-47)


@triton.jit
def _unpack(word):
    upper = (word >> 13) & 0x7FFFF
    of_v = (upper.to(tl.float32) * 0.14285715).to(tl.int32)
    of_m = word - of_v * (2 * CODES_OF_M)
    negative = of_m >= CODES_OF_M
    of_m = tl.where(negative, of_m - CODES_OF_M, of_m)
    size = ((of_m << 11) + LOW_OF_M).to(tl.float32, bitcast=True) - LOWEST_M
    bits = (of_v << 13) + LOW_OF_V
    bits = bits + 31 * tl.maximum(bits - COARSE_OF_V, 0)
    return tl.where(negative, -size, size), bits.to(tl.float32, bitcast=True) - LOWEST_V


@triton.jit
def _pack(m, v, index, offset):
    threshold = index * -0x61C88647 + offset
    bits = m.to(tl.int32, bitcast=True)
    size = (bits & 0x7FFFFFFF).to(tl.float32, bitcast=True) + LOWEST_M
    size = size.to(tl.int32, bitcast=True)
    of_m = (size - LOW_OF_M + ((threshold >> 21) & 0x7FF)) >> 11
    of_m = tl.minimum(of_m, CODES_OF_M - 1)
    size = (v + LOWEST_V).to(tl.int32, bitcast=True)
    size = tl.minimum(size, (size >> 5) + (COARSE_OF_V - COARSE_OF_V // 32))
    of_v = (size - LOW_OF_V + (threshold & 0x1FFF)) >> 13
    return of_v * (2 * CODES_OF_M) + of_m + ((bits >> 31) & CODES_OF_M)


@triton.jit
def _offset_of(draw):
    x = draw.to(tl.int32)
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * -0x7B935975
    return x ^ ((x >> 16) & 0xFFFF)


@triton.jit
def step(
    thetas,
    ms,
    vs,
    gs,
    residuals,
    sizes,
    tensors,
    starts,
    columns,
    scalars,
    width,
    parameter: tl.constexpr,
    gradient: tl.constexpr,
    real: tl.constexpr,
    packed: tl.constexpr,
    has_residual: tl.constexpr,
    aligned: tl.constexpr,
    block: tl.constexpr,
):
    """Update one block of one tensor.

    Args:
        thetas: Addresses of the parameters' data, int64; the next four arguments likewise.
        ms: Momenta; or words if the states are packed.
        vs: Second moments; or words.
        gs: Gradients.
        residuals: Residuals, if there are any.
        sizes: Number of elements of each tensor, int64.
        tensors: The tensor that each program updates, int64.
        starts: The first element that each program updates, int64.
        columns: The column of ``scalars`` for each tensor, int64.
        scalars: A row for each of ``SCALARS``, of dtype ``real``, with ``width`` columns.
        width: Number of columns of ``scalars``.
        parameter: Dtype of parameters.
        gradient: Dtype of gradients.
        real: Compute dtype, also of the state.
        packed: Whether the states are packed.
        has_residual: Whether there are residuals.
        aligned: Whether all addresses (in bytes) and sizes are multiples of 16.
        block: Number of elements per program.
    """
    program = tl.program_id(0)
    i = tl.load(tensors + program)
    start = tl.multiple_of(tl.load(starts + program), block)
    scalar = scalars + tl.load(columns + i)
    skip = tl.load(scalar + SKIP * width)
    size = tl.where(skip == 0, tl.load(sizes + i), 0)
    at = start + tl.arange(0, block)
    inside = at < (tl.multiple_of(size, 16) if aligned else size)
    theta = _pointer(thetas, i, parameter, aligned) + at
    if packed:
        word = _pointer(ms, i, tl.int32, aligned) + at
        mi, vi = _unpack(tl.load(word, mask=inside))
    else:
        m = _pointer(ms, i, real, aligned) + at
        v = _pointer(vs, i, real, aligned) + at
        mi, vi = tl.load(m, mask=inside), tl.load(v, mask=inside)
    g = _pointer(gs, i, gradient, aligned) + at

    gamma = tl.load(scalar + GAMMA * width)
    decay = tl.load(scalar + DECAY * width)
    decay_drive = tl.load(scalar + DECAY_DRIVE * width)
    impulse = tl.load(scalar + IMPULSE * width)
    friction = tl.load(scalar + FRICTION * width)
    drive = tl.load(scalar + DRIVE * width)
    memory = tl.load(scalar + MEMORY * width)
    averaging = tl.load(scalar + AVERAGING * width)
    bias_correction = tl.load(scalar + BIAS_CORRECTION * width)
    eps = tl.load(scalar + EPS * width)
    gradient_scale = tl.load(scalar + GRADIENT_SCALE * width)

    gi = tl.load(g, mask=inside).to(real) * gradient_scale
    square = gi * gi
    # The interpolation starts from the end of larger weight, as in the core.
    remembers = averaging <= memory
    near = tl.where(remembers, vi, square)
    vi = near + tl.where(remembers, averaging, memory) * (tl.where(remembers, square, vi) - near)
    # Triton's sqrt and division operator are approximate in float32.
    if real == tl.float32:
        u = tl.div_rn(gi, tl.sqrt_rn(tl.div_rn(vi, bias_correction)) + eps)
    else:
        u = gi / (tl.sqrt(vi / bias_correction) + eps)
    t = tl.load(theta, mask=inside)
    if has_residual:
        residual = _pointer(residuals, i, tl.int16, aligned) + at
        t = _join(t, tl.load(residual, mask=inside))
    else:
        t = t.to(real)
    mi = mi + decay_drive * t
    t = t - (decay * t + gamma * mi + impulse * u)
    mi = mi - friction * mi + drive * u
    if packed:
        offset = _offset_of(tl.load(scalar + DRAW * width))
        tl.store(word, _pack(mi, vi, at.to(tl.int32), offset), mask=inside)
    else:
        tl.store(m, mi, mask=inside)
        tl.store(v, vi, mask=inside)
    if has_residual:
        p, r = _split(t, parameter)
        tl.store(theta, p, mask=inside)
        tl.store(residual, r, mask=inside)
    else:
        tl.store(theta, t.to(parameter), mask=inside)
