/* How fast this processor exponentiates in registers, for the floors that benches report: nothing
 * is read or written, and independent vectors hide the latency. */

struct limits {
    int64_t count, threads; /* vectors of work for each thread */
    int64_t numbers;        /* how many exponentials that was */
    double result;          /* keeps the compiler from leaving the work out */
};

#define AT_ONCE 8

void seshu_exponentials(struct limits *l) {
    double result = 0;
#pragma omp parallel num_threads(l->threads) reduction(+ : result)
    {
        vec x[AT_ONCE];
        for (int k = 0; k < AT_ONCE; k++) x[k] = NAME(splat)(-0.1f * (k + 1));
        /* 2^(1/2 - x) stays between 0 and 2 when it is applied again and again. */
        for (int64_t i = 0; i < l->count; i += AT_ONCE)
            UNROLLED for (int k = 0; k < AT_ONCE; k++) x[k] = NAME(exp2)(0.5f - x[k]);
        for (int k = 0; k < AT_ONCE; k++) result += NAME(sum)(x[k]);
    }
    l->numbers = l->count * LANES * l->threads;
    l->result = result;
}
