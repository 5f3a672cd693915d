/* One token through all blocks of a span: norm, in_proj, convolution, x_proj, dt_proj, recurrence,
 * gate, out_proj, residual. Reading the weights once is what it costs; one call for the span leaves
 * nothing else to pay for.
 *
 * Every sum has one order, whatever the batch and the number of threads: a session's tokens do not
 * depend on who shares its batch. Weights lie as in a checkpoint. */

struct step_work { /* of one call, shared by its threads */
    real *normed, *gated, *u, *projected, *y; /* (B, M), (B, D), (B, D), (B, R + 2N), (B, D) */
};

/* Threads of one call meet here. They spin for a moment, then let others have the processor: the
 * machine may have other work to do. */
struct meeting {
    int threads;
    int arrived, turn; /* atomics */
};

static void meet(struct meeting *m) {
    int turn = __atomic_load_n(&m->turn, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&m->arrived, 1, __ATOMIC_ACQ_REL) == m->threads) {
        __atomic_store_n(&m->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&m->turn, turn + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&m->turn, __ATOMIC_ACQUIRE) == turn; spins++) {
        if (spins > 1000) sched_yield();
        else PAUSE();
    }
}

/* The part of `count` things that falls to thread `id`, in whole vectors. */
static void part_of(int64_t count, int id, int threads, int64_t *first, int64_t *end) {
    int64_t each = ((count + threads - 1) / threads + LANES - 1) / LANES * LANES;
    *first = id * each < count ? id * each : count;
    *end = *first + each < count ? *first + each : count;
}

/* Dot products of some rows of a matrix with some of the batch, side by side to keep arithmetic
 * busy. Each sum runs in the same order however many stand beside it. */
#define ROWS 4
#define BATCH 4
static inline __attribute__((always_inline)) void dots(const real *matrix, const real *x,
                                                       int64_t width, real *out, int64_t out_stride,
                                                       const int rows, const int batch) {
    vec total[BATCH][ROWS] = {{{0}}};
    for (int64_t i = 0; i < width; i += LANES) {
        int lanes = WITHIN(i, width);
        vec row[ROWS];
        UNROLLED for (int r = 0; r < rows; r++) row[r] = NAME(load)(matrix + r * width + i, lanes);
        /* Of the rows that come next, in the order in which they lie. */
        if (rows == ROWS)
            UNROLLED for (int r = 0; r < rows; r++)
                __builtin_prefetch(matrix + rows * width + i * rows + r * LANES);
        UNROLLED for (int b = 0; b < batch; b++) {
            vec part = NAME(load)(x + b * width + i, lanes);
            UNROLLED for (int r = 0; r < rows; r++)
                total[b][r] = NAME(fused)(part, row[r], total[b][r]);
        }
    }
    UNROLLED for (int b = 0; b < batch; b++)
        UNROLLED for (int r = 0; r < rows; r++) out[b * out_stride + r] = NAME(sum)(total[b][r]);
}

/* out[b][row] = matrix[row] . x[b] for the rows [first, end). A few sessions wait for memory, so one
 * row after the other is read as it lies there: rows side by side would halve what memory gives.
 * Many wait for arithmetic: rows side by side share what is read of the batch. */
static void product(const real *matrix, const real *x, real *out, int64_t batch, int64_t width,
                    int64_t first, int64_t end, int64_t out_stride) {
    int64_t row = first;
    for (; batch >= BATCH && row + ROWS <= end; row += ROWS) {
        int64_t b = 0;
        for (; b + BATCH <= batch; b += BATCH)
            dots(matrix + row * width, x + b * width, width, out + b * out_stride + row, out_stride,
                 ROWS, BATCH);
        for (; b < batch; b++)
            dots(matrix + row * width, x + b * width, width, out + b * out_stride + row, out_stride,
                 ROWS, 1);
    }
    for (; row < end; row++)
        for (int64_t b = 0; b < batch; b++)
            dots(matrix + row * width, x + b * width, width, out + b * out_stride + row, out_stride,
                 1, 1);
}

static inline real silu_of(real x) { return x / (1 + expf(-x)); }

/* The new input joins the state's past; returns the convolution's output. */
static inline real step_conv(const struct step *s, const struct step_block *w, const real *past,
                             real *next, int64_t d, real x) {
    int64_t num_past = s->d_conv - 1;
    const real *weight = (const real *)w->conv_weight + d * s->d_conv;
    real total = ((const real *)w->conv_bias)[d] + weight[num_past] * x;
    for (int64_t k = 0; k < num_past; k++) total += weight[k] * past[k];
    for (int64_t k = 0; k + 1 < num_past; k++) next[k] = past[k + 1];
    next[num_past - 1] = x;
    return silu_of(total);
}

/* One channel's states through the recurrence; returns C . state. */
static inline real step_states(const real *A_log, const real *before, real *after, const real *B,
                               const real *C, int64_t d_state, real delta, real drive) {
    vec total = {0};
    for (int64_t n = 0; n < d_state; n += LANES) {
        int lanes = WITHIN(n, d_state);
        vec rate = NAME(exp)(NAME(load)(A_log + n, lanes)) * -delta;
        vec h = NAME(exp)(rate) * NAME(load)(before + n, lanes) + drive * NAME(load)(B + n, lanes);
        NAME(store)(after + n, h, lanes);
        total += h * NAME(load)(C + n, lanes);
    }
    return NAME(sum)(total);
}

/* Channels [first, end) of a block up to what x_proj needs: in_proj and the convolution. */
static void step_enter(const struct step *s, const struct step_block *w, struct step_work *k,
                       int64_t block, int64_t first, int64_t end) {
    int64_t D = s->d_inner, M = s->d_model, past = s->d_conv - 1;
    const real *matrix = w->in_proj;
    product(matrix, k->normed, k->u, s->batch, M, first, end, D);
    product(matrix + D * M, k->normed, k->gated, s->batch, M, first, end, D);
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t d = first; d < end; d++) {
            int64_t at = ((block * s->batch + b) * D + d) * past;
            real *u = k->u + b * D + d;
            *u = step_conv(s, w, (const real *)s->conv + at, (real *)s->next_conv + at, d, *u);
        }
}

/* Channels [first, end): time steps, recurrence, skip and gate. */
static void step_scan(const struct step *s, const struct step_block *w, struct step_work *k,
                      int64_t block, int64_t first, int64_t end) {
    int64_t D = s->d_inner, N = s->d_state, R = s->dt_rank, width = R + 2 * N;
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t d = first; d < end; d++) {
            const real *projected = k->projected + b * width;
            int64_t at = ((block * s->batch + b) * D + d) * N;
            real raw, u = k->u[b * D + d];
            dots((const real *)w->dt_proj + d * R, projected, R, &raw, 0, 1, 1);
            raw += ((const real *)w->dt_bias)[d];
            real delta = (raw > 0 ? raw : 0) + log1pf(expf(-fabsf(raw)));
            real y = step_states((const real *)w->A_log + d * N, (const real *)s->ssm + at,
                                 (real *)s->next_ssm + at, projected + R, projected + R + N, N,
                                 delta, delta * u);
            y += ((const real *)w->D)[d] * u;
            k->y[b * D + d] = y * silu_of(k->gated[b * D + d]);
        }
}

/* Rows [first, end) of out_proj, added to the residual stream. */
static void step_leave(const struct step *s, const struct step_block *w, struct step_work *k,
                       int64_t first, int64_t end) {
    int64_t M = s->d_model;
    product(w->out_proj, k->y, k->normed, s->batch, s->d_inner, first, end, M);
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t m = first; m < end; m++)
            ((real *)s->hidden)[b * M + m] += k->normed[b * M + m];
}

static void step_norm(const struct step *s, const struct step_block *w, real *normed) {
    int64_t M = s->d_model;
    for (int64_t b = 0; b < s->batch; b++) {
        const real *x = (const real *)s->hidden + b * M;
        real scale = 1 / SQRT(NAME(mean_of_squares)(x, M) + (real)s->epsilon);
        for (int64_t m = 0; m < M; m++)
            normed[b * M + m] = ((const real *)w->norm)[m] * (x[m] * scale);
    }
}

static void step_thread(const struct step *s, struct step_work *k, struct meeting *m, int id) {
    int64_t first, end, row, last_row, model, last_model, width = s->dt_rank + 2 * s->d_state;
    part_of(s->d_inner, id, m->threads, &first, &end);
    part_of(width, id, m->threads, &row, &last_row);
    part_of(s->d_model, id, m->threads, &model, &last_model);
    for (int64_t block = 0; block < s->num_blocks; block++) {
        const struct step_block *w = s->blocks + block;
        if (id == 0) step_norm(s, w, k->normed);
        meet(m);
        step_enter(s, w, k, block, first, end);
        meet(m);
        product(w->x_proj, k->u, k->projected, s->batch, s->d_inner, row, last_row, width);
        meet(m);
        step_scan(s, w, k, block, first, end);
        meet(m);
        step_leave(s, w, k, model, last_model);
        meet(m);
    }
}

/* 0, or 1 where memory is missing. `hidden` is changed in place, the states are written anew. */
int seshu_step(const struct step *s) {
    int64_t D = s->d_inner, width = s->dt_rank + 2 * s->d_state;
    real *memory = malloc(s->batch * (s->d_model + 3 * D + width) * sizeof(real));
    if (!memory) return 1;
    struct step_work work = {.normed = memory};
    work.gated = work.normed + s->batch * s->d_model;
    work.u = work.gated + s->batch * D;
    work.y = work.u + s->batch * D;
    work.projected = work.y + s->batch * D;
    struct meeting meeting = {.threads = 1};
#pragma omp parallel num_threads(s->threads)
    {
#ifdef _OPENMP
#pragma omp single
        meeting.threads = omp_get_num_threads();
        int id = omp_get_thread_num();
#else
        int id = 0;
#endif
        FLUSH_DENORMALS();
        step_thread(s, &work, &meeting, id);
        RESTORE_DENORMALS();
    }
    free(memory);
    return 0;
}

/* out (batch, rows) = x (batch, width) times a matrix (rows, width) transposed: the head. */
void seshu_product(const struct product *p) {
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int64_t row = 0; row < p->rows; row += PRODUCT_ROWS) {
        int64_t end = row + PRODUCT_ROWS < p->rows ? row + PRODUCT_ROWS : p->rows;
        product(p->matrix, p->x, p->out, p->batch, p->width, row, end, p->rows);
    }
}
