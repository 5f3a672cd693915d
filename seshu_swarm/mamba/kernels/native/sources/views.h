/* What Python hands over (`library.py` mirrors these): sizes, and where each tensor lies. */

#include <stdint.h>

/* A tensor (batch, length, channels): channels are adjacent, the strides are in elements. */
struct view {
    void *data;
    int64_t batch_stride, time_stride;
};

struct scan {
    int64_t batch, length, d_inner, d_state, threads, softplus;
    const int64_t *lengths;                     /* (batch,) or NULL */
    struct view u, delta, B, C, z;              /* z.data may be NULL */
    void *A, *D, *delta_bias, *state;           /* A (N, D) in base 2; the others may be NULL */
    struct view y, ungated;                     /* ungated.data NULL: not kept */
    void *boundaries, *last;                    /* (batch, chunks, N, D) or NULL; (batch, D, N) */
    struct view dy, du, ddelta, dz;
    void *dlast, *dstate;                       /* (batch, D, N) */
    void *dB, *dC;                              /* (groups, batch, length, N) */
    void *dA, *dD, *dbias;                      /* (batch, N, D) in base e; (batch, D) */
};

struct conv {
    int64_t batch, length, d_inner, d_conv, threads;
    const int64_t *lengths;
    struct view x, y, dy, dx;
    void *weight, *bias, *state, *last;         /* weight (K, D); states (batch, D, K - 1) */
    void *dlast, *dstate, *dweight, *dbias;     /* (batch, K, D); (batch, D) */
};

struct norm {
    int64_t rows, width, threads;
    double epsilon;
    void *x, *weight, *y, *scale;               /* (rows, width); scale (rows,) */
    void *dy, *dx, *dweight;                    /* dweight (parts, width) */
};

/* Weights of one block, as a checkpoint has them. */
struct step_block {
    void *norm, *in_proj, *conv_weight, *conv_bias, *x_proj, *dt_proj, *dt_bias, *A_log, *D, *out_proj;
};

struct step {
    int64_t batch, num_blocks, d_model, d_inner, d_state, d_conv, dt_rank, threads;
    double epsilon;
    const struct step_block *blocks;
    void *hidden;                               /* (batch, M) */
    void *conv, *next_conv, *ssm, *next_ssm;    /* (blocks, batch, D, K - 1), (blocks, batch, D, N) */
};

struct product {
    int64_t batch, rows, width, threads;
    void *matrix, *x, *out;                     /* (rows, width), (batch, width), (batch, rows) */
};
