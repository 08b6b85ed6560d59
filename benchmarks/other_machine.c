/* One update of every kind of row by the kernel; writes what comes of it as text: a line a kind,
   with the bits of theta, m and v. VALUES are the coefficients, in order. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { N = 1000, KINDS = 5 };

typedef struct {
    void *const *theta, *const *g, *const *m, *const *v;
    int16_t *const *residual;
    double *const *step;
    const int64_t *size, *kind, *set;
} Rows;

void innaprop_step(int64_t count, const Rows *rows, const void *sets, int threads);

/* As numbers between 1 and 2, and gradients between 1/2 and 1. */
static void fill(int kind, int i, void *theta, void *g) {
    float x = 1 + (float)i / N, y = 0.5f + (float)((i * 7) % N) / (2 * N);
    switch (kind) {
    case 0: ((float *)theta)[i] = x, ((float *)g)[i] = y; break;
    case 1: ((double *)theta)[i] = x, ((double *)g)[i] = y; break;
    case 2: ((uint16_t *)theta)[i] = 0x3f80 + i % 128, ((uint16_t *)g)[i] = 0x3f00 + i % 113; break;
    case 3: ((uint16_t *)theta)[i] = 0x3c00 + i, ((uint16_t *)g)[i] = 0x3800 + (i * 7) % N; break;
    }
}

static void print(const void *array, size_t width) {
    for (int i = 0; i < N; i++) {
        uint64_t bits = 0;
        memcpy(&bits, (const char *)array + i * width, width); /* Little-endian, as both are. */
        printf("%" PRIu64 " ", bits);
    }
}

int main(void) {
    static double theta[KINDS][N], g[KINDS][N], m[KINDS][N], v[KINDS][N];
    static int16_t residual[KINDS][N];
    const double values[] = {VALUES};
    const int64_t size[KINDS] = {N, N, N, N, N}, kind[KINDS] = {0, 1, 2, 3, 2};
    const int64_t set[KINDS] = {0};
    void *thetas[KINDS], *gs[KINDS], *ms[KINDS], *vs[KINDS];
    int16_t *residuals[KINDS];
    for (int k = 0; k < KINDS; k++) {
        thetas[k] = theta[k], gs[k] = g[k], ms[k] = m[k], vs[k] = v[k];
        residuals[k] = k < 4 ? 0 : residual[k];
        for (int i = 0; i < N; i++) {
            fill((int)kind[k], i, theta[k], g[k]);
            if (kind[k] == 1) m[k][i] = 1, v[k][i] = 0.5;
            else ((float *)m[k])[i] = 1, ((float *)v[k])[i] = 0.5f;
        }
    }
    Rows rows = {thetas, gs, ms, vs, residuals, 0, size, kind, set};
    innaprop_step(KINDS, &rows, values, 2);
    for (int k = 0; k < KINDS; k++) {
        size_t state = kind[k] == 1 ? 8 : 4;
        if (k == 4) {
            /* With its residual a bfloat16 is a float32, of these bits. */
            static uint32_t joined[N];
            for (int i = 0; i < N; i++)
                joined[i] = ((uint32_t)((uint16_t *)theta[k])[i] << 16) + (uint32_t)residual[k][i];
            print(joined, 4);
        } else {
            print(theta[k], kind[k] < 2 ? state : 2);
        }
        print(m[k], state), print(v[k], state);
        printf("\n");
    }
    return 0;
}
