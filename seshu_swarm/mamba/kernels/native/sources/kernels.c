/* The native kernels: float for work, double for tests that differentiate numerically.
 *
 * Plain C with the vector extensions of gcc and clang, no header of torch or Python: one library
 * serves every version of both. Never built with -ffast-math: older gcc would then change how the
 * whole process rounds when the library is loaded. */

#define _GNU_SOURCE
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
/* Numbers too small for a float are zero inside a task: states decay into them, and the processor
 * takes a hundred times longer for each. */
#define FLUSH_DENORMALS() unsigned rounding = _mm_getcsr(); _mm_setcsr(rounding | 0x8040)
#define RESTORE_DENORMALS() _mm_setcsr(rounding)
#define PAUSE() _mm_pause()
#else
#define FLUSH_DENORMALS() (void)0
#define RESTORE_DENORMALS() (void)0
#define PAUSE() (void)0
#endif

#include "views.h"

#define LN_2 0.693147180559945309417
/* Small arrays live in registers only if the loops over them are unrolled. */
#define UNROLLED _Pragma("GCC unroll 8")
#define MAX_STATES 256
#define MAX_TAPS 16
#define PRODUCT_ROWS 64

#define real float
#define whole int32_t
#define REAL_IS_FLOAT 1
#define SQRT sqrtf
#define NAME(x) x##_float
#include "vector.h"
#include "scan.h"
#include "conv.h"
#include "norm.h"
#include "step.h"
#include "limits.h"
#undef real
#undef whole
#undef mask
#undef REAL_IS_FLOAT
#undef SQRT
#undef NAME
#undef vec
#undef LANES
#undef WITHIN
#undef VECTOR_BYTES

#define real double
#define whole int64_t
#define REAL_IS_FLOAT 0
#define SQRT sqrt
#define NAME(x) x##_double
#include "vector.h"
#include "scan.h"
#include "conv.h"
#include "norm.h"
