/* INNAprop in C, for `innaprop-conformance check`: follows one exported case.
 *
 *   cc -O2 -ffp-contract=off -DREAL=float innaprop.c -o innaprop -lm      (or -DREAL=double)
 *   ./innaprop CASE/inputs.safetensors CASE/float32.safetensors
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

static char *header, *data; /* of the safetensors file that is read */

/* Return where the data of a tensor begins, and how many bytes it has. */
static void *tensor(const char *name, int64_t *bytes) {
    char key[64];
    long long begin, end;
    snprintf(key, sizeof key, "\"%s\":", name);
    char *entry = strstr(header, key);
    char *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
    if (!offsets || sscanf(offsets, "\"data_offsets\":[%lld,%lld", &begin, &end) != 2)
        fprintf(stderr, "no tensor %s\n", name), exit(1);
    *bytes = end - begin;
    return data + begin;
}

static void read_file(const char *path) {
    uint64_t length;
    FILE *file = fopen(path, "rb");
    if (!file || fread(&length, 8, 1, file) != 1) perror(path), exit(1);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file) - 8;
    fseek(file, 8, SEEK_SET);
    char *all = malloc(size);
    if (fread(all, 1, size, file) != size) exit(1);
    fclose(file);
    header = calloc(1, length + 1);
    memcpy(header, all, length);
    data = all + length;
}

/* One update of the elements of one parameter, in momentum coordinates. */
static void step(real *theta, real *m, real *v, const real *g, int64_t n, int64_t k,
                 const double *hyperparameters) {
    double gamma = hyperparameters[0], alpha = hyperparameters[1], beta = hyperparameters[2];
    double sigma = hyperparameters[3], lambda = hyperparameters[5], viscous = 1 - alpha * beta;
    real decay = gamma * lambda, decay_drive = hyperparameters[6] * gamma * lambda * viscous / beta;
    real impulse = gamma * beta, friction = alpha * gamma, drive = gamma * viscous;
    real correction = sigma > 0 ? -expm1(k * log(sigma)) : 1, eps = hyperparameters[4];
    real averaging = 1 - sigma, memory = sigma, rate = gamma;
    for (int64_t i = 0; i < n; i++) {
        real square = g[i] * g[i];
        v[i] = averaging <= memory ? v[i] + averaging * (square - v[i])
                                   : square + memory * (v[i] - square);
        real u = g[i] / ((real)sqrt(v[i] / correction) + eps);
        real pushed = m[i] + decay_drive * theta[i];
        theta[i] -= decay * theta[i] + rate * pushed + impulse * u;
        m[i] = pushed - friction * pushed + drive * u;
    }
}

int main(int count, char **arguments) {
    int64_t bytes;
    if (count != 3) return fprintf(stderr, "usage: innaprop INPUTS OUTPUT\n"), 2;
    read_file(arguments[1]);
    int64_t *sizes = tensor("sizes", &bytes), parameters = bytes / 8;
    int64_t *k = tensor("k", &bytes), steps = parameters ? bytes / 8 / parameters : 0;
    double *hyperparameters = tensor("hyperparameters", &bytes);
    double *start = tensor("start", &bytes);
    int64_t n = bytes / 8;
    void *gradients = tensor("gradients", &bytes);
    int is_wide = bytes == 8 * steps * n; /* F64, else F32 */
    real *theta = calloc(4 * n, sizeof(real)), *m = theta + n, *v = m + n, *g = v + n;
    for (int64_t i = 0; i < n; i++) theta[i] = start[i];

    char json[200];
    uint64_t length = snprintf(json, sizeof json,
        "{\"theta\":{\"dtype\":\"F%d\",\"shape\":[%" PRId64 ",%" PRId64 "],\"data_offsets\":[0,%" PRId64 "]}}",
        (int)sizeof(real) * 8, steps, n, steps * n * (int64_t)sizeof(real));
    FILE *file = fopen(arguments[2], "wb");
    if (!file) return perror(arguments[2]), 1;
    fwrite(&length, 8, 1, file);
    fwrite(json, 1, length, file);
    for (int64_t j = 0; j < steps; j++) {
        for (int64_t i = j * n; i < (j + 1) * n; i++)
            g[i - j * n] = is_wide ? ((double *)gradients)[i] : ((float *)gradients)[i];
        for (int64_t p = 0, at = 0; p < parameters; at += sizes[p++])
            if (k[j * parameters + p] > 0) /* else it has no gradient now, and stays */
                step(theta + at, m + at, v + at, g + at, sizes[p], k[j * parameters + p],
                     hyperparameters + 7 * (j * parameters + p));
        fwrite(theta, sizeof(real), n, file);
    }
    return fclose(file) ? 1 : 0;
}
