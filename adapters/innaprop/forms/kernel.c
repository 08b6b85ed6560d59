/* One update of a list of tensors on the CPU: the formula of innaprop_core.momentum.step, with every
   value read and written once. Built by library.py; kernel.py has the same tables in Python.

   COEFFICIENTS is defined on the command line: an X(name) for each scalar of an update, in Python's
   order. `innaprop_layout` records the order that a library was built with. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef COEFFICIENTS
#error "build with -DCOEFFICIENTS='X(gamma) X(decay) ...'"
#endif

#ifdef __has_attribute
#if __has_attribute(target_clones) && defined(__x86_64__) && defined(__gnu_linux__)
/* Compiled for three instruction sets; one is chosen when the library is loaded. */
#define FOR_EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef FOR_EVERY_CPU
#define FOR_EVERY_CPU
#endif

#define EXPORTED __attribute__((visibility("default")))
#define ELEMENTS_WORTH_A_THREAD 32768
/* Threads split a row at multiples of this, a multiple of every vector length, so that the result of
   each element does not depend on the number of threads. */
#define SEAM 64

#define X(name) double name;
typedef struct {
    COEFFICIENTS
} Coefficients;
#undef X

#define X(name) #name " "
EXPORTED extern const char innaprop_layout[];
const char innaprop_layout[] = COEFFICIENTS;
#undef X

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float bfloat16_to_float(uint16_t p) { return float_of((uint32_t)p << 16); }

static inline uint16_t float_to_bfloat16(float x) {
    uint32_t bits = bits_of(x);
    uint16_t rounded = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0 : rounded;
}

/* float16 by integer operations, which every compiler supports and can vectorise. */

static inline float float16_to_float(uint16_t p) {
    uint32_t magnitude = (uint32_t)(p & 0x7fff) << 13, sign = (uint32_t)(p & 0x8000) << 16;
    /* Subnormals count units of 2^-24, as do the low bits of a float with the exponent of 2^-14. */
    float small = float_of(magnitude + 0x38800000u) - float_of(0x38800000u);
    uint32_t others = magnitude + (magnitude >= 0x0f800000u ? 0x70000000u : 0x38000000u);
    return float_of(sign | (magnitude < 0x00800000u ? bits_of(small) : others));
}

static inline uint16_t float_to_float16(float x) {
    uint32_t bits = bits_of(x), magnitude = bits & 0x7fffffffu;
    /* In a float near 1/2 the last bit is 2^-24, float16's smallest subnormal. */
    uint32_t small = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
    uint32_t rounded = magnitude < 0x38800000u ? small : normal;
    rounded = magnitude >= 0x47800000u ? 0x7c00u : rounded;
    rounded = magnitude > 0x7f800000u ? 0x7e00u : rounded;
    return (uint16_t)(rounded | ((bits >> 16) & 0x8000u));
}

/* A 16-bit parameter and its residual represent one float32: see residual.py. */

static inline float join_bfloat16(uint16_t p, int16_t r) {
    int32_t residual = r;
    if ((p & 0x7f80) == 0x7f80 || ((p & 0x7fff) == 0 && residual < 0)) residual = 0;
    return float_of(((uint32_t)p << 16) + (uint32_t)residual);
}

static inline uint16_t split_bfloat16(float x, int16_t *r) {
    uint32_t bits = bits_of(x);
    uint16_t p = (uint16_t)((bits + 0x8000u) >> 16);
    if ((bits & 0x7fffffffu) > 0x7f800000u) p = 0x7fc0;
    *r = (p & 0x7f80) == 0x7f80 ? 0 : (int16_t)(bits - ((uint32_t)p << 16));
    return p;
}

/* The unit of the residual: 2^-16 of the spacing of float16 at x. */
static inline int32_t residual_exponent(float x) {
    int32_t exponent = (int32_t)((bits_of(x) >> 23) & 0xffu) - 126;
    return (exponent > -13 ? exponent : -13) - 27;
}

static inline float power_of_two(int32_t exponent) {
    return float_of((uint32_t)(exponent + 127) << 23);
}

static inline float join_float16(uint16_t p, int16_t r) {
    float x = float16_to_float(p);
    float units = (p & 0x7c00) == 0x7c00 ? 0.0f : (float)r;
    return x + units * power_of_two(residual_exponent(x));
}

static inline uint16_t split_float16(float x, int16_t *r) {
    uint16_t p = float_to_float16(x);
    float base = float16_to_float(p);
    float units = rintf((x - base) * power_of_two(-residual_exponent(base)));
    units = units < 32767.0f ? units : 32767.0f;
    *r = (p & 0x7c00) == 0x7c00 ? 0 : (int16_t)units;
    return p;
}

/* Momentum and second moment packed into one word: see innaprop_core/packed.py. */

#define LOW_OF_M 0x3e000000u /* 2^-3 */
#define LOW_OF_V 0x28000000u /* 2^-47 */
#define COARSE_OF_V 0x4a800000u /* 2^22 */
#define CODES_OF_M 28672u
#define DRAWS 16777216.0
/* Elements that are unpacked at a time: few enough to stay in the L1 cache beside the streamed
   data. */
#define UNPACKED 128
/* The difference of the thresholds of neighbouring elements, in units of 2^-32. */
#define LATTICE 0x9e3779b9u

static inline uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

FOR_EVERY_CPU static void unpack(
    const uint32_t *restrict word, float *restrict m, float *restrict v, int n) {
    for (int i = 0; i < n; i++) {
        /* The upper 19 bits divided by 7, times 2^13. */
        uint32_t of_v = (uint32_t)(int32_t)((float)(int32_t)(word[i] >> 13) * 0.14285715f) << 13;
        uint32_t of_m = word[i] - (of_v << 3) + of_v;
        uint32_t sign = (CODES_OF_M - 1 - of_m) & 0x80000000u;
        /* If the difference is negative, it is large as an unsigned number. */
        of_m = smaller(of_m, of_m - CODES_OF_M);
        m[i] = float_of(bits_of(float_of((of_m << 11) + LOW_OF_M) - float_of(LOW_OF_M)) ^ sign);
        int32_t above = (int32_t)(of_v - (COARSE_OF_V - LOW_OF_V));
        uint32_t coarse = (uint32_t)(above > 0 ? above : 0);
        v[i] = float_of(of_v + LOW_OF_V + (coarse << 5) - coarse) - float_of(LOW_OF_V);
    }
}

/* Stochastic rounding; `start` is the first element's threshold. */
FOR_EVERY_CPU static void pack(
    uint32_t *restrict word, const float *restrict m, const float *restrict v, int n,
    uint32_t start) {
    /* The smallest codes, subtracted at the end. */
    const uint32_t first_m = LOW_OF_M >> 11, first_v = LOW_OF_V >> 13;
    for (int i = 0; i < n; i++) {
        uint32_t threshold = start + (uint32_t)i * LATTICE, bits = bits_of(m[i]);
        uint32_t size = bits_of(float_of(bits & 0x7fffffffu) + float_of(LOW_OF_M));
        uint32_t of_m = smaller((size + (threshold >> 21)) >> 11, first_m + CODES_OF_M - 1);
        size = bits_of(v[i] + float_of(LOW_OF_V));
        size = smaller(size, (size >> 5) + (COARSE_OF_V - COARSE_OF_V / 32));
        uint32_t of_v = (size + (threshold & 0x1fffu)) >> 13;
        uint32_t sign = (uint32_t)((int32_t)bits >> 31) & CODES_OF_M;
        word[i] = (((of_v << 3) - of_v) << 13) + of_m + sign - (7 * (first_v << 13) + first_m);
    }
}

static uint32_t offset_of_draw(double draw) {
    uint32_t x = (uint32_t)draw;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/* Defines the update of n elements of one tensor.
   PARAMETER, GRADIENT: types of theta and g in memory. REAL: compute type, also of the state.
   READ: g[i] as REAL. LOAD: theta[i] as REAL. STORE: writes t into theta[i]. */
#define DEFINE_UPDATE(NAME, PARAMETER, GRADIENT, REAL, SQRT, READ, LOAD, STORE)                    \
    FOR_EVERY_CPU static void update_##NAME(                                                       \
        PARAMETER *restrict theta, const GRADIENT *restrict g, REAL *restrict m,                   \
        REAL *restrict v, int16_t *restrict residual, int64_t n, const Coefficients *c) {          \
        const REAL gamma = (REAL)c->gamma, decay = (REAL)c->decay, impulse = (REAL)c->impulse;     \
        const REAL decay_drive = (REAL)c->decay_drive, friction = (REAL)c->friction;               \
        const REAL drive = (REAL)c->drive, memory = (REAL)c->memory, eps = (REAL)c->eps;           \
        const REAL averaging = (REAL)c->averaging, scale = (REAL)c->gradient_scale;                \
        const REAL correction = (REAL)(1 / c->bias_correction);                                    \
        const int remembers = c->averaging <= c->memory;                                           \
        (void)residual;                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            REAL gi = READ * scale, square = gi * gi;                                              \
            REAL vi = remembers ? v[i] + averaging * (square - v[i])                               \
                                : square + memory * (v[i] - square);                               \
            REAL u = gi / (SQRT(vi * correction) + eps);                                           \
            REAL t = LOAD;                                                                         \
            REAL mi = m[i] + decay_drive * t;                                                      \
            t = t - (decay * t + gamma * mi + impulse * u);                                        \
            m[i] = mi - friction * mi + drive * u;                                                 \
            v[i] = vi;                                                                             \
            STORE;                                                                                 \
        }                                                                                          \
    }

DEFINE_UPDATE(float32, float, float, float, sqrtf, g[i], theta[i], theta[i] = t)
DEFINE_UPDATE(float64, double, double, double, sqrt, g[i], theta[i], theta[i] = t)

/* 16-bit parameters, with and without residual; gradients in the same dtype or float32. */
#define DEFINE_16_BIT(FORMAT, NAME, GRADIENT, READ)                                                \
    DEFINE_UPDATE(                                                                                 \
        NAME, uint16_t, GRADIENT, float, sqrtf, READ, FORMAT##_to_float(theta[i]),                 \
        theta[i] = float_to_##FORMAT(t))                                                           \
    DEFINE_UPDATE(                                                                                 \
        NAME##_residual, uint16_t, GRADIENT, float, sqrtf, READ,                                   \
        join_##FORMAT(theta[i], residual[i]), theta[i] = split_##FORMAT(t, &residual[i]))

DEFINE_16_BIT(bfloat16, bfloat16, uint16_t, bfloat16_to_float(g[i]))
DEFINE_16_BIT(bfloat16, bfloat16_float32, float, g[i])
DEFINE_16_BIT(float16, float16, uint16_t, float16_to_float(g[i]))
DEFINE_16_BIT(float16, float16_float32, float, g[i])

/* The kinds of rows, by the dtypes of parameter and gradient, in the order of c.py. */
enum { FLOAT32, FLOAT64, BFLOAT16, FLOAT16, BFLOAT16_FLOAT32, FLOAT16_FLOAT32 };
/* Added to the kind if m points to words with the packed momentum and second moment. */
#define PACKED 8

/* All rows of a call, column by column. */
typedef struct {
    void *const *theta, *const *g, *const *m, *const *v;
    int16_t *const *residual; /* Null pointers for rows without one. */
    double *const *step; /* Step counts, incremented here; or null if the sets have the bias
                            correction. With step counts, the draw of a set is that of update 1. */
    const int64_t *size, *kind, *set;
} Rows;

/* Update n elements of row i, starting at element low. m and v point to its (unpacked) state. */
static void update(
    const Rows *rows, int64_t i, void *m, void *v, int64_t low, int64_t n, const Coefficients *c) {
    int16_t *residual = rows->residual[i] ? rows->residual[i] + low : 0;
#define CALL(NAME, PARAMETER, GRADIENT, REAL)                                                      \
    update_##NAME(                                                                                 \
        (PARAMETER *)rows->theta[i] + low, (const GRADIENT *)rows->g[i] + low, (REAL *)m,          \
        (REAL *)v, residual, n, c)
#define CALL_16_BIT(NAME, GRADIENT)                                                                \
    if (residual) CALL(NAME##_residual, uint16_t, GRADIENT, float);                                \
    else CALL(NAME, uint16_t, GRADIENT, float)
    switch (rows->kind[i] & ~PACKED) {
    case FLOAT32: CALL(float32, float, float, float); break;
    case FLOAT64: CALL(float64, double, double, double); break;
    case BFLOAT16: CALL_16_BIT(bfloat16, uint16_t); break;
    case FLOAT16: CALL_16_BIT(float16, uint16_t); break;
    case BFLOAT16_FLOAT32: CALL_16_BIT(bfloat16_float32, float); break;
    case FLOAT16_FLOAT32: CALL_16_BIT(float16_float32, float); break;
    }
}

static void update_state(const Rows *rows, int64_t i, int64_t low, int64_t n, const Coefficients *c) {
    if (!(rows->kind[i] & PACKED)) {
        int64_t start = low * (rows->kind[i] == FLOAT64 ? 8 : 4);
        update(rows, i, (char *)rows->m[i] + start, (char *)rows->v[i] + start, low, n, c);
        return;
    }
    float m[UNPACKED], v[UNPACKED];
    uint32_t offset = offset_of_draw(c->draw);
    for (int64_t end = low + n; low < end; low += UNPACKED) {
        int64_t some = end - low < UNPACKED ? end - low : UNPACKED;
        uint32_t *word = (uint32_t *)rows->m[i] + low;
        unpack(word, m, v, (int)some);
        update(rows, i, m, v, low, some, c);
        pack(word, m, v, (int)some, (uint32_t)low * LATTICE + offset);
    }
}

static double bias_correction(double sigma, double k) {
    return sigma == 0 ? 1 : -expm1(k * log(sigma));
}

/* Return how many of a row's elements come before a place among all elements, rounded up to SEAM. */
static int64_t elements_before(int64_t place, int64_t start, int64_t size) {
    int64_t before = place <= start ? 0 : (place - start + SEAM - 1) / SEAM * SEAM;
    return before < size ? before : size;
}

/* Make one update of all rows. Every thread takes the same number of elements, regardless of where
   rows begin and end. `sets` are sets of scalars; each row has the index of its set. */
EXPORTED void innaprop_step(int64_t count, const Rows *rows, const Coefficients *sets, int threads) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) total += rows->size[i];
    if (threads > total / ELEMENTS_WORTH_A_THREAD) threads = (int)(total / ELEMENTS_WORTH_A_THREAD);
    if (threads < 1) threads = 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        int64_t from = total * t / threads, to = total * (t + 1) / threads, start = 0, set = -1;
        double k = 0;
        Coefficients c = sets[0];
        for (int64_t i = 0; i < count && start < to; start += rows->size[i], i++) {
            int64_t low = elements_before(from, start, rows->size[i]);
            int64_t high = elements_before(to, start, rows->size[i]);
            if (low >= high) continue;
            double next = rows->step ? *rows->step[i] + 1 : 0;
            if (rows->set[i] != set || next != k) {
                set = rows->set[i], k = next, c = sets[set];
                if (rows->step) c.bias_correction = bias_correction(c.memory, k);
                if (rows->step) c.draw = fmod(c.draw + k - 1, DRAWS);
            }
            update_state(rows, i, low, high - low, &c);
        }
    }
    for (int64_t i = 0; rows->step && i < count; i++) *rows->step[i] += 1;
}
