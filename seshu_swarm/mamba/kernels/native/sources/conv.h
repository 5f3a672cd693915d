/* The causal depthwise convolution and its SiLU, forward and backward, over LANES channels at a
 * time. A task is one row of the batch and one vector of channels; a ring of the last inputs stays
 * in registers. */

/* What the convolution sees at token t: the past comes from the state. */
static inline vec NAME(conv_input)(const struct conv *c, int64_t row, int64_t t, int64_t d,
                                   int lanes) {
    if (t >= 0) return NAME(load)(NAME(at)(&c->x, row, t) + d, lanes);
    vec x = {0};
    int64_t past = c->d_conv - 1;
    const real *state = (const real *)c->state + (row * c->d_inner + d) * past + past + t;
    for (int i = 0; c->state && i < lanes; i++) x[i] = state[i * past];
    return x;
}

/* States (batch, D, K - 1): `write` the vector that lies `k` inputs from the oldest. */
static inline void NAME(conv_state)(const struct conv *c, void *to, int64_t row, int64_t k,
                                    int64_t d, vec x, int lanes) {
    int64_t past = c->d_conv - 1;
    real *state = (real *)to + (row * c->d_inner + d) * past + k;
    for (int i = 0; i < lanes; i++) state[i * past] = x[i];
}

static inline __attribute__((always_inline)) void NAME(conv_forward_vector)(
    const struct conv *c, int64_t row, int64_t d, int lanes, const int taps) {
    int64_t length = NAME(row_length)(c->lengths, row, c->length);
    vec window[MAX_TAPS], weight[MAX_TAPS];
    vec bias = NAME(load)((real *)c->bias + d, lanes);
    for (int k = 0; k < taps; k++)
        weight[k] = NAME(load)((real *)c->weight + k * c->d_inner + d, lanes);
    for (int k = 1; k < taps; k++) window[k] = NAME(conv_input)(c, row, k - taps, d, lanes);
    for (int64_t t = 0; t < length; t++) {
        vec total = bias;
        for (int k = 0; k + 1 < taps; k++) window[k] = window[k + 1];
        window[taps - 1] = NAME(load)(NAME(at)(&c->x, row, t) + d, lanes);
        for (int k = 0; k < taps; k++) total += weight[k] * window[k];
        NAME(store)(NAME(at)(&c->y, row, t) + d, total * NAME(sigmoid)(total), lanes);
    }
    for (int k = 1; k < taps; k++) NAME(conv_state)(c, c->last, row, k - 1, d, window[k], lanes);
    NAME(clear)(&c->y, row, d, lanes, length, c->length);
}

/* Gradient of the sum before the SiLU. */
static inline vec NAME(conv_through_silu)(const struct conv *c, const vec *weight, vec bias,
                                          const vec *window, int64_t row, int64_t t, int64_t d,
                                          int lanes, const int taps) {
    vec total = bias;
    for (int k = 0; k < taps; k++) total += weight[k] * window[k];
    vec sigmoid = NAME(sigmoid)(total);
    return NAME(load)(NAME(at)(&c->dy, row, t) + d, lanes) *
           (sigmoid + total * sigmoid * (1 - sigmoid));
}

/* dx[t] is complete once the sums at t .. t + K - 1 have been seen: a second ring, of gradients. */
static inline __attribute__((always_inline)) void NAME(conv_backward_vector)(
    const struct conv *c, int64_t row, int64_t d, int lanes, const int taps) {
    int64_t length = NAME(row_length)(c->lengths, row, c->length), past = taps - 1;
    vec window[MAX_TAPS], weight[MAX_TAPS], dweight[MAX_TAPS], pending[MAX_TAPS], dbias = {0};
    vec bias = NAME(load)((real *)c->bias + d, lanes);
    for (int k = 0; k < taps; k++) {
        weight[k] = NAME(load)((real *)c->weight + k * c->d_inner + d, lanes);
        dweight[k] = pending[k] = (vec){0};
    }
    for (int k = 1; k < taps; k++) window[k] = NAME(conv_input)(c, row, k - taps, d, lanes);
    for (int64_t t = 0; t < length + past; t++) {
        for (int k = 0; k < past; k++) window[k] = window[k + 1], pending[k] = pending[k + 1];
        pending[past] = (vec){0};
        if (t < length) {
            window[past] = NAME(load)(NAME(at)(&c->x, row, t) + d, lanes);
            vec dtotal = NAME(conv_through_silu)(c, weight, bias, window, row, t, d, lanes, taps);
            dbias += dtotal;
            for (int k = 0; k < taps; k++) {
                dweight[k] += dtotal * window[k];
                pending[k] += dtotal * weight[k];
            }
        }
        /* pending[0] belongs to input t - past; the last K - 1 inputs are the state handed on. */
        vec done = pending[0];
        if (c->dlast && t >= length) {
            const real *dlast = (real *)c->dlast + (row * c->d_inner + d) * past + t - length;
            for (int i = 0; i < lanes; i++) done[i] += dlast[i * past];
        }
        if (t >= past) NAME(store)(NAME(at)(&c->dx, row, t - past) + d, done, lanes);
        else NAME(conv_state)(c, c->dstate, row, t, d, done, lanes);
    }
    for (int k = 0; k < taps; k++)
        NAME(store)((real *)c->dweight + (row * taps + k) * c->d_inner + d, dweight[k], lanes);
    NAME(store)((real *)c->dbias + row * c->d_inner + d, dbias, lanes);
    NAME(clear)(&c->dx, row, d, lanes, length, c->length);
}

#define EACH_VECTOR(function)                                                                   \
    int64_t vectors = (c->d_inner + LANES - 1) / LANES;                                         \
    _Pragma("omp parallel for schedule(static) num_threads(c->threads)")                        \
    for (int64_t task = 0; task < c->batch * vectors; task++) {                                 \
        int64_t row = task / vectors, d = task % vectors * LANES;                               \
        int lanes = WITHIN(d, c->d_inner);                     \
        if (c->d_conv == 4) function(c, row, d, lanes, 4); /* the usual width, unrolled */      \
        else function(c, row, d, lanes, (int)c->d_conv);                                        \
    }

void NAME(seshu_conv_forward)(const struct conv *c) { EACH_VECTOR(NAME(conv_forward_vector)) }

void NAME(seshu_conv_backward)(const struct conv *c) { EACH_VECTOR(NAME(conv_backward_vector)) }

#undef EACH_VECTOR
