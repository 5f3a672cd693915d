/* The selective scan, forward and backward, over LANES channels at a time.
 *
 * A task is one row of the batch and GROUP channels: nothing is shared between tasks, so that their
 * number and order change no bit of the result. Time runs inside; STATES states of LANES channels
 * stay in registers over a chunk of CHUNK tokens. The states before every chunk are kept, the rest
 * is computed again in backward (the Mamba paper, section 3.3.2). */

#define CHUNK 16
#define GROUP 128
#if defined(__AVX512F__)
#define STATES 8
#else
#define STATES 4
#endif

static inline int64_t NAME(row_length)(const int64_t *lengths, int64_t row, int64_t length) {
    return lengths ? (lengths[row] < length ? lengths[row] : length) : length;
}

static inline real *NAME(at)(const struct view *view, int64_t row, int64_t t) {
    return (real *)view->data + row * view->batch_stride + t * view->time_stride;
}

/* Zero `channels` channels of the tokens [from, to) of a row. */
static void NAME(clear)(const struct view *view, int64_t row, int64_t channel, int64_t channels,
                        int64_t from, int64_t to) {
    for (int64_t t = from; view->data && t < to; t++)
        memset(NAME(at)(view, row, t) + channel, 0, channels * sizeof(real));
}

/* Ask for the line that the next vector of channels (or the first of the next chunk) will read:
 * tokens lie a page apart, which the processor does not guess. */
static inline const real *NAME(fetch)(const struct view *view, int64_t row, int64_t t, int64_t d,
                                      int64_t ahead) {
    const real *here = NAME(at)(view, row, t) + d;
    __builtin_prefetch(here + ahead);
    return here;
}

/* Steps and drives (delta * u) of a chunk's tokens, for one vector of channels. */
struct NAME(tokens) {
    vec u[CHUNK], raw[CHUNK], delta[CHUNK], drive[CHUNK];
};

static inline void NAME(read_tokens)(const struct scan *s, struct NAME(tokens) *x, int64_t row,
                                     int64_t t0, int tokens, int64_t d, int lanes) {
    vec bias = s->delta_bias ? NAME(load)((real *)s->delta_bias + d, lanes) : (vec){0};
    for (int t = 0; t < tokens; t++) {
        x->u[t] = NAME(load)(NAME(fetch)(&s->u, row, t0 + t, d, LANES), lanes);
        x->raw[t] = NAME(load)(NAME(fetch)(&s->delta, row, t0 + t, d, LANES), lanes) + bias;
        x->delta[t] = s->softplus ? NAME(softplus)(x->raw[t]) : x->raw[t];
        x->drive[t] = x->delta[t] * x->u[t];
    }
}

/* Advance `count` states of LANES channels over a chunk and add C . state to y. */
static inline __attribute__((always_inline)) void NAME(advance)(
    const struct NAME(tokens) *x, int tokens, const vec *A, const real *B, int64_t B_stride,
    const real *C, int64_t C_stride, vec *state, vec *y, const int count) {
    vec h[STATES];
    UNROLLED for (int k = 0; k < count; k++) h[k] = state[k];
    for (int t = 0; t < tokens; t++) {
        vec even = {0}, odd = {0};
        UNROLLED for (int k = 0; k < count; k++) {
            h[k] = NAME(exp2)(x->delta[t] * A[k]) * h[k] + x->drive[t] * B[t * B_stride + k];
            if (k % 2) odd += h[k] * C[t * C_stride + k];
            else even += h[k] * C[t * C_stride + k];
        }
        y[t] += even + odd;
    }
    UNROLLED for (int k = 0; k < count; k++) state[k] = h[k];
}

static void NAME(forward_chunk)(const struct scan *s, const vec *A, vec *state, int64_t row,
                                int64_t t0, int tokens, int64_t d, int lanes) {
    struct NAME(tokens) x;
    vec y[CHUNK];
    vec D = s->D ? NAME(load)((real *)s->D + d, lanes) : (vec){0};
    NAME(read_tokens)(s, &x, row, t0, tokens, d, lanes);
    for (int t = 0; t < tokens; t++) y[t] = D * x.u[t];
    const real *B = NAME(at)(&s->B, row, t0), *C = NAME(at)(&s->C, row, t0);
    int64_t Bs = s->B.time_stride, Cs = s->C.time_stride, n = 0;
    for (; n + STATES <= s->d_state; n += STATES)
        NAME(advance)(&x, tokens, A + n, B + n, Bs, C + n, Cs, state + n, y, STATES);
    for (; n < s->d_state; n++)
        NAME(advance)(&x, tokens, A + n, B + n, Bs, C + n, Cs, state + n, y, 1);
    for (int t = 0; t < tokens; t++) {
        if (s->ungated.data) NAME(store)(NAME(at)(&s->ungated, row, t0 + t) + d, y[t], lanes);
        if (s->z.data) {
            vec z = NAME(load)(NAME(fetch)(&s->z, row, t0 + t, d, LANES), lanes);
            y[t] *= z * NAME(sigmoid)(z);
        }
        NAME(store)(NAME(at)(&s->y, row, t0 + t) + d, y[t], lanes);
    }
}

/* (D, N) of a row to vectors over channels, and back. */
static void NAME(read_state)(const struct scan *s, const void *from, vec *state, int64_t row,
                             int64_t d, int lanes) {
    const real *start = (const real *)from + (row * s->d_inner + d) * s->d_state;
    for (int64_t n = 0; n < s->d_state; n++) {
        state[n] = (vec){0};
        for (int i = 0; from && i < lanes; i++) state[n][i] = start[i * s->d_state + n];
    }
}

static void NAME(write_state)(const struct scan *s, void *to, const vec *state, int64_t row,
                              int64_t d, int lanes) {
    real *start = (real *)to + (row * s->d_inner + d) * s->d_state;
    for (int64_t n = 0; n < s->d_state; n++)
        for (int i = 0; i < lanes; i++) start[i * s->d_state + n] = state[n][i];
}

/* Rows (N, D) of a matrix: `d` is its first channel. */
static void NAME(read_rows)(const real *from, int64_t d_inner, int64_t d_state, vec *to, int lanes) {
    for (int64_t n = 0; n < d_state; n++) to[n] = NAME(load)(from + n * d_inner, lanes);
}

static void NAME(write_rows)(real *to, int64_t d_inner, int64_t d_state, const vec *from,
                             int lanes) {
    for (int64_t n = 0; n < d_state; n++) NAME(store)(to + n * d_inner, from[n], lanes);
}

static inline int64_t NAME(chunks)(int64_t length) { return (length + CHUNK - 1) / CHUNK; }

/* Where the states before a chunk are kept. */
static inline real *NAME(boundary)(const struct scan *s, int64_t row, int64_t chunk, int64_t d) {
    int64_t index = row * NAME(chunks)(s->length) + chunk;
    return (real *)s->boundaries + index * s->d_state * s->d_inner + d;
}

/* One chunk for each vector of a group in turn: neighbours in memory are read together. */
static void NAME(forward_group)(const struct scan *s, vec *states, int64_t row, int64_t first) {
    int64_t N = s->d_state, end = first + GROUP < s->d_inner ? first + GROUP : s->d_inner;
    int64_t length = NAME(row_length)(s->lengths, row, s->length);
    vec A[MAX_STATES];
    for (int64_t d = first; d < end; d += LANES)
        NAME(read_state)(s, s->state, states + (d - first) / LANES * N, row, d, WITHIN(d, end));
    for (int64_t t0 = 0; t0 < length; t0 += CHUNK)
        for (int64_t d = first; d < end; d += LANES) {
            int lanes = WITHIN(d, end), tokens = length - t0 < CHUNK ? (int)(length - t0) : CHUNK;
            vec *state = states + (d - first) / LANES * N;
            NAME(read_rows)((real *)s->A + d, s->d_inner, N, A, lanes);
            if (s->boundaries)
                NAME(write_rows)(NAME(boundary)(s, row, t0 / CHUNK, d), s->d_inner, N, state, lanes);
            NAME(forward_chunk)(s, A, state, row, t0, tokens, d, lanes);
        }
    for (int64_t d = first; d < end; d += LANES)
        NAME(write_state)(s, s->last, states + (d - first) / LANES * N, row, d, WITHIN(d, end));
    NAME(clear)(&s->y, row, first, end - first, length, s->length);
}

/* 0, or 1 where memory for the states is missing. */
int NAME(seshu_scan_forward)(const struct scan *s) {
    int64_t groups = (s->d_inner + GROUP - 1) / GROUP;
    int failed = 0;
#pragma omp parallel num_threads(s->threads)
    {
        vec *states = aligned_alloc(VECTOR_BYTES, GROUP / LANES * s->d_state * sizeof(vec));
        FLUSH_DENORMALS();
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s->batch * groups; task++) {
            if (states) NAME(forward_group)(s, states, task / groups, task % groups * GROUP);
            else failed = 1;
        }
        RESTORE_DENORMALS();
        free(states);
    }
    return failed;
}

/* Gradients of one vector of channels over one chunk, besides those of B and C. */
struct NAME(gradients) {
    vec dy[CHUNK], du[CHUNK], ddelta[CHUNK], ddrive[CHUNK];
};

/* Compute `count` states again and run back through them. `dB` and `dC` (CHUNK, d_state) add up
 * over the channels of the group, lane by lane. */
static inline __attribute__((always_inline)) void NAME(retreat)(
    const struct NAME(tokens) *x, struct NAME(gradients) *g, int tokens, const vec *A,
    const real *B, int64_t B_stride, const real *C, int64_t C_stride, const vec *before,
    vec *dstate, vec *dA, vec *dB, vec *dC, int64_t d_state, const int count) {
    vec decay[CHUNK][STATES], states[CHUNK + 1][STATES];
    vec h[STATES], dh[STATES], sum[STATES];
    UNROLLED for (int k = 0; k < count; k++) h[k] = states[0][k] = before[k];
    for (int t = 0; t < tokens; t++)
        UNROLLED for (int k = 0; k < count; k++) {
            decay[t][k] = NAME(exp2)(x->delta[t] * A[k]);
            h[k] = decay[t][k] * h[k] + x->drive[t] * B[t * B_stride + k];
            states[t + 1][k] = h[k];
        }
    UNROLLED for (int k = 0; k < count; k++) dh[k] = dstate[k], sum[k] = dA[k];
    for (int t = tokens - 1; t >= 0; t--) {
        vec ddrive = {0}, ddelta = {0};
        UNROLLED for (int k = 0; k < count; k++) {
            dC[t * d_state + k] += states[t + 1][k] * g->dy[t];
            dh[k] += g->dy[t] * C[t * C_stride + k];
            dB[t * d_state + k] += dh[k] * x->drive[t];
            ddrive += dh[k] * B[t * B_stride + k];
            dh[k] *= decay[t][k];
            vec dexponent = dh[k] * states[t][k];
            ddelta += dexponent * A[k];
            sum[k] += dexponent * x->delta[t];
        }
        g->ddrive[t] += ddrive;
        g->ddelta[t] += ddelta;
    }
    UNROLLED for (int k = 0; k < count; k++) dstate[k] = dh[k], dA[k] = sum[k];
}

/* Through the gate and the skip: dz, dy, and what D gives to du. Returns what the chunk adds to dD. */
static inline vec NAME(enter_backward)(const struct scan *s, const struct NAME(tokens) *x,
                                       struct NAME(gradients) *g, int64_t row, int64_t t0,
                                       int tokens, int64_t d, int lanes) {
    vec D = s->D ? NAME(load)((real *)s->D + d, lanes) : (vec){0}, dD = {0};
    for (int t = 0; t < tokens; t++) {
        vec dy = NAME(load)(NAME(fetch)(&s->dy, row, t0 + t, d, LANES), lanes);
        if (s->z.data) {
            vec z = NAME(load)(NAME(fetch)(&s->z, row, t0 + t, d, LANES), lanes);
            vec y = NAME(load)(NAME(fetch)(&s->ungated, row, t0 + t, d, LANES), lanes);
            vec sigmoid = NAME(sigmoid)(z), silu = z * sigmoid;
            NAME(store)(NAME(at)(&s->dz, row, t0 + t) + d,
                        dy * y * (sigmoid + silu * (1 - sigmoid)), lanes);
            dy *= silu;
        }
        g->dy[t] = dy;
        g->du[t] = dy * D;
        dD += dy * x->u[t];
        g->ddelta[t] = g->ddrive[t] = (vec){0};
    }
    return dD;
}

/* From ddrive and the gradient of the exponents (base 2) to du and ddelta, through softplus.
 * Returns what the chunk adds to the gradient of delta's bias. */
static inline vec NAME(leave_backward)(const struct scan *s, const struct NAME(tokens) *x,
                                       struct NAME(gradients) *g, int64_t row, int64_t t0,
                                       int tokens, int64_t d, int lanes) {
    vec dbias = {0};
    for (int t = 0; t < tokens; t++) {
        vec ddelta = g->ddelta[t] * (real)LN_2 + g->ddrive[t] * x->u[t];
        if (s->softplus) ddelta *= NAME(sigmoid)(x->raw[t]);
        NAME(store)(NAME(at)(&s->du, row, t0 + t) + d, g->du[t] + g->ddrive[t] * x->delta[t], lanes);
        NAME(store)(NAME(at)(&s->ddelta, row, t0 + t) + d, ddelta, lanes);
        dbias += ddelta;
    }
    return dbias;
}

/* All a task carries from one chunk to the chunk before it, for each vector of its channels. */
struct NAME(carried) {
    vec dstate[MAX_STATES], dA[MAX_STATES], dD, dbias;
};

static void NAME(backward_chunk)(const struct scan *s, struct NAME(carried) *c, vec *dB, vec *dC,
                                 int64_t row, int64_t t0, int tokens, int64_t d, int lanes) {
    struct NAME(tokens) x;
    struct NAME(gradients) g;
    vec A[MAX_STATES], before[MAX_STATES];
    int64_t N = s->d_state, n = 0;
    NAME(read_rows)((real *)s->A + d, s->d_inner, N, A, lanes);
    NAME(read_rows)(NAME(boundary)(s, row, t0 / CHUNK, d), s->d_inner, N, before, lanes);
    NAME(read_tokens)(s, &x, row, t0, tokens, d, lanes);
    c->dD += NAME(enter_backward)(s, &x, &g, row, t0, tokens, d, lanes);
    const real *B = NAME(at)(&s->B, row, t0), *C = NAME(at)(&s->C, row, t0);
    int64_t Bs = s->B.time_stride, Cs = s->C.time_stride;
    for (; n + STATES <= N; n += STATES)
        NAME(retreat)(&x, &g, tokens, A + n, B + n, Bs, C + n, Cs, before + n, c->dstate + n,
                      c->dA + n, dB + n, dC + n, N, STATES);
    for (; n < N; n++)
        NAME(retreat)(&x, &g, tokens, A + n, B + n, Bs, C + n, Cs, before + n, c->dstate + n,
                      c->dA + n, dB + n, dC + n, N, 1);
    c->dbias += NAME(leave_backward)(s, &x, &g, row, t0, tokens, d, lanes);
}

static void NAME(begin_group)(const struct scan *s, struct NAME(carried) *c, int64_t row,
                              int64_t first, int64_t end) {
    for (int64_t d = first; d < end; d += LANES, c++) {
        int lanes = WITHIN(d, end);
        NAME(read_state)(s, s->dlast, c->dstate, row, d, lanes);
        memset(c->dA, 0, s->d_state * sizeof(vec));
        c->dD = c->dbias = (vec){0};
    }
}

static void NAME(end_group)(const struct scan *s, const struct NAME(carried) *c, int64_t row,
                            int64_t first, int64_t end) {
    int64_t N = s->d_state;
    for (int64_t d = first; d < end; d += LANES, c++) {
        int lanes = WITHIN(d, end);
        NAME(write_state)(s, s->dstate, c->dstate, row, d, lanes);
        NAME(write_rows)((real *)s->dA + row * N * s->d_inner + d, s->d_inner, N, c->dA, lanes);
        NAME(store)((real *)s->dD + row * s->d_inner + d, c->dD, lanes);
        NAME(store)((real *)s->dbias + row * s->d_inner + d, c->dbias, lanes);
    }
}

/* The lanes of each sum, to (length, N) of the task's own part. */
static void NAME(write_sums)(real *to, const vec *sums, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = NAME(sum)(sums[i]);
}

static void NAME(backward_group)(const struct scan *s, struct NAME(carried) *carried, vec *sums,
                                 int64_t group, int64_t row) {
    int64_t N = s->d_state, first = group * GROUP;
    int64_t end = first + GROUP < s->d_inner ? first + GROUP : s->d_inner;
    int64_t length = NAME(row_length)(s->lengths, row, s->length);
    vec *dB = sums, *dC = sums + CHUNK * N;
    int64_t part = (group * s->batch + row) * s->length * N;
    NAME(begin_group)(s, carried, row, first, end);
    for (int64_t chunk = NAME(chunks)(length) - 1; chunk >= 0; chunk--) {
        int64_t t0 = chunk * CHUNK;
        int tokens = length - t0 < CHUNK ? (int)(length - t0) : CHUNK;
        memset(sums, 0, 2 * CHUNK * N * sizeof(vec));
        for (int64_t d = first; d < end; d += LANES)
            NAME(backward_chunk)(s, carried + (d - first) / LANES, dB, dC, row, t0, tokens, d,
                                 WITHIN(d, end));
        NAME(write_sums)((real *)s->dB + part + t0 * N, dB, tokens * N);
        NAME(write_sums)((real *)s->dC + part + t0 * N, dC, tokens * N);
    }
    NAME(end_group)(s, carried, row, first, end);
    NAME(clear)(&s->du, row, first, end - first, length, s->length);
    NAME(clear)(&s->ddelta, row, first, end - first, length, s->length);
    NAME(clear)(&s->dz, row, first, end - first, length, s->length);
    memset((real *)s->dB + part + length * N, 0, (s->length - length) * N * sizeof(real));
    memset((real *)s->dC + part + length * N, 0, (s->length - length) * N * sizeof(real));
}

/* 0, or 1 where memory for the sums is missing. */
int NAME(seshu_scan_backward)(const struct scan *s) {
    int64_t groups = (s->d_inner + GROUP - 1) / GROUP;
    int failed = 0;
#pragma omp parallel num_threads(s->threads)
    {
        int vectors = GROUP / LANES;
        struct NAME(carried) *carried = aligned_alloc(VECTOR_BYTES, vectors * sizeof *carried);
        vec *sums = aligned_alloc(VECTOR_BYTES, 2 * CHUNK * s->d_state * sizeof(vec));
        FLUSH_DENORMALS();
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s->batch * groups; task++) {
            if (carried && sums)
                NAME(backward_group)(s, carried, sums, task % groups, task / groups);
            else
                failed = 1;
        }
        RESTORE_DENORMALS();
        free(carried);
        free(sums);
    }
    return failed;
}

#undef CHUNK
#undef GROUP
#undef STATES
