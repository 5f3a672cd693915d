/* Vectors of one instruction set and the functions of one real number that the kernels need.
 *
 * Included once with `real` float (polynomials) and once with `real` double (the C library), so
 * that the double kernels, which tests differentiate numerically, are the same source. */

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(real)))
/* Lanes of the vector at `i` that lie before `end`. */
#define WITHIN(i, end) ((end) - (i) < LANES ? (int)((end) - (i)) : LANES)

typedef real NAME(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef real NAME(loose) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real))));
typedef whole NAME(mask) __attribute__((vector_size(VECTOR_BYTES)));
#define vec NAME(vec)
#define mask NAME(mask)

static inline vec NAME(splat)(real x) { return x - (vec){0}; }

/* Lane by lane: `x` where the comparison held, else `y`. */
static inline vec NAME(pick)(mask held, vec x, vec y) {
    return (vec)((held & (mask)x) | (~held & (mask)y));
}

static inline vec NAME(load)(const real *from, int lanes) {
    if (__builtin_expect(lanes == LANES, 1)) return *(const NAME(loose) *)from;
    vec x = {0};
    for (int i = 0; i < lanes; i++) x[i] = from[i];
    return x;
}

static inline void NAME(store)(real *to, vec x, int lanes) {
    if (__builtin_expect(lanes == LANES, 1)) *(NAME(loose) *)to = x;
    else for (int i = 0; i < lanes; i++) to[i] = x[i];
}

/* x * y + z, rounded once where the processor can: said outright where results must not depend on
 * what the compiler makes of the code around. */
static inline vec NAME(fused)(vec x, vec y, vec z) {
#if REAL_IS_FLOAT && defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif REAL_IS_FLOAT && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#else
    return x * y + z;
#endif
}

/* Halves are added to one another: a chain of LANES additions would take longer than the rest. */
static inline real NAME(sum)(vec x) {
#if REAL_IS_FLOAT && defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#endif
    real part[LANES];
    memcpy(part, &x, sizeof part);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

#if REAL_IS_FLOAT

/* 2^r for |r| <= 1/2: minimax, relative error 1.9e-9 before rounding. The first coefficient rounds
 * to exactly 1: a bias there would be multiplied in at every token. */
static inline vec NAME(exp2_poly)(vec r) {
    vec p = NAME(splat)(1.53458121613e-4f);
    p = p * r + 1.33999311772e-3f;
    p = p * r + 9.61848895633e-3f;
    p = p * r + 5.55032877711e-2f;
    p = p * r + 2.40226468906e-1f;
    p = p * r + 6.93147205737e-1f;
    return p * r + 1.0f;
}

static inline vec NAME(exp2)(vec x) {
#if defined(__AVX512F__)
    __m512 n = _mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return (vec)_mm512_scalef_ps((__m512)NAME(exp2_poly)(x - (vec)n), n);
#else
    const vec magic = NAME(splat)(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    x = NAME(pick)(x < -127.0f, NAME(splat)(-127.0f), x); /* NaN passes both comparisons */
    x = NAME(pick)(x > 127.0f, NAME(splat)(127.0f), x);
    vec shifted = x + magic;
    /* 2^n as a number, zero at -127: multiplied, so that a NaN of any bits stays one. */
    vec power = (vec)(((mask)shifted + 127) << 23);
    return NAME(exp2_poly)(x - (shifted - magic)) * power;
#endif
}

/* log(1 + w) for 0 <= w <= 1 as 2 atanh(w / (2 + w)): relative error 4e-9 before rounding. */
static inline vec NAME(log1p)(vec w) {
    vec s = w / (w + 2.0f), q = s * s;
    vec p = NAME(splat)(0.281783350867f);
    p = p * q + 0.279606027472f;
    p = p * q + 0.400249102795f;
    p = p * q + 0.666663146821f;
    return (p * q + 2.0f) * s;
}

static inline vec NAME(exp)(vec x) { return NAME(exp2)(x * 1.44269504089f); }

#else

static inline vec NAME(exp2)(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = exp2(x[i]);
    return x;
}
static inline vec NAME(log1p)(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = log1p(x[i]);
    return x;
}
static inline vec NAME(exp)(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
}

#endif

static inline vec NAME(negated_size)(vec x) { return NAME(pick)(x < 0, x, -x); }

/* 1 / (1 + exp(-x)), by the exponential that cannot overflow. */
static inline vec NAME(sigmoid)(vec x) {
    vec w = NAME(exp)(NAME(negated_size)(x));
    return NAME(pick)(x < 0, w, NAME(splat)(1)) / (w + 1);
}

static inline vec NAME(softplus)(vec x) {
    vec positive = NAME(pick)(x > 0, x, (vec){0});
    return positive + NAME(log1p)(NAME(exp)(NAME(negated_size)(x)));
}
