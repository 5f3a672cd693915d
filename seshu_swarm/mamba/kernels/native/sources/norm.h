/* The RMS norm of rows, forward and backward. */

static inline real NAME(mean_of_squares)(const real *x, int64_t width) {
    vec total = {0};
    for (int64_t i = 0; i < width; i += LANES) {
        vec part = NAME(load)(x + i, WITHIN(i, width));
        total += part * part;
    }
    return NAME(sum)(total) / (real)width;
}

void NAME(seshu_norm_forward)(const struct norm *n) {
    int64_t width = n->width;
    const real *weight = n->weight;
#pragma omp parallel for schedule(static) num_threads(n->threads)
    for (int64_t row = 0; row < n->rows; row++) {
        const real *x = (const real *)n->x + row * width;
        real scale = 1 / SQRT(NAME(mean_of_squares)(x, width) + (real)n->epsilon);
        ((real *)n->scale)[row] = scale;
        for (int64_t i = 0; i < width; i += LANES) {
            int lanes = WITHIN(i, width);
            NAME(store)((real *)n->y + row * width + i,
                        NAME(load)(weight + i, lanes) * (NAME(load)(x + i, lanes) * scale), lanes);
        }
    }
}

/* Rows are cut into PARTS, whatever the number of threads, so that sums have one order. */
#define PARTS 16

static void NAME(norm_backward_row)(const struct norm *n, int64_t row, real *dweight) {
    int64_t width = n->width;
    const real *x = (const real *)n->x + row * width, *dy = (const real *)n->dy + row * width;
    real scale = ((real *)n->scale)[row];
    vec total = {0};
    for (int64_t i = 0; i < width; i += LANES) {
        int lanes = WITHIN(i, width);
        vec normed = NAME(load)(x + i, lanes) * scale, d = NAME(load)(dy + i, lanes);
        NAME(store)(dweight + i, NAME(load)(dweight + i, lanes) + d * normed, lanes);
        total += d * normed * NAME(load)((real *)n->weight + i, lanes);
    }
    real mean = NAME(sum)(total) / (real)width;
    for (int64_t i = 0; i < width; i += LANES) {
        int lanes = WITHIN(i, width);
        vec d = NAME(load)(dy + i, lanes) * NAME(load)((real *)n->weight + i, lanes);
        NAME(store)((real *)n->dx + row * width + i,
                    (d - NAME(load)(x + i, lanes) * scale * mean) * scale, lanes);
    }
}

void NAME(seshu_norm_backward)(const struct norm *n) {
    int64_t each = (n->rows + PARTS - 1) / PARTS;
#pragma omp parallel for schedule(static) num_threads(n->threads)
    for (int64_t part = 0; part < PARTS; part++) {
        real *dweight = (real *)n->dweight + part * n->width;
        memset(dweight, 0, n->width * sizeof(real));
        for (int64_t row = part * each; row < (part + 1) * each && row < n->rows; row++)
            NAME(norm_backward_row)(n, row, dweight);
    }
}

#undef PARTS
