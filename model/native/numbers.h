/* Vectors of floats, number formats, and sums over lanes: what the rest is written in. */

#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#define omp_get_num_threads() 1
#endif

#ifdef __clang__
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (words){__VA_ARGS__})
#endif

#define INLINE static inline __attribute__((always_inline))

/* ROWS weights rows times 4 texts, in vectors of this width, are the sums that registers can hold. */
#ifdef __AVX512F__
enum { VECTOR = 64, ROWS = 4 };
#else
enum { VECTOR = 32, ROWS = 2 };
#endif
enum { LANES = VECTOR / 4, PAIRS = VECTOR / 2 };
typedef float floats __attribute__((vector_size(VECTOR), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(VECTOR), aligned(2), may_alias));
typedef uint32_t pair __attribute__((aligned(2), may_alias));
typedef int32_t ints __attribute__((vector_size(VECTOR), aligned(4), may_alias));

typedef enum { FLOAT, BFLOAT, INT8, INT4, INT16 } Kind;

INLINE float from_bfloat(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Rounded to the nearest, ties to even; NaN stays NaN. */
INLINE uint16_t to_bfloat(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (value != value) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE size_t bytes(Kind kind) { return kind == FLOAT ? 4 : kind == INT8 ? 1 : 2; }

INLINE float value_at(const void *data, size_t at, Kind kind) {
    if (kind == FLOAT) return ((const float *)data)[at];
    if (kind == BFLOAT) return from_bfloat(((const uint16_t *)data)[at]);
    return kind == INT8 ? ((const int8_t *)data)[at] : ((const int16_t *)data)[at];
}

/* ADDED(width): each unit of `width` lanes is the sum of two neighbours of a, further on of b. */
#define LANE(i, width, from) ((i) / (width) * 2 * (width) + (i) % (width) + (from))
#define EIGHT(i, width, from)                                                                      \
    LANE(i, width, from), LANE(i + 1, width, from), LANE(i + 2, width, from),                      \
        LANE(i + 3, width, from), LANE(i + 4, width, from), LANE(i + 5, width, from),              \
        LANE(i + 6, width, from), LANE(i + 7, width, from)
#ifdef __AVX512F__
#define EVERY_LANE(width, from) EIGHT(0, width, from), EIGHT(8, width, from)
#else
#define EVERY_LANE(width, from) EIGHT(0, width, from)
#endif
#define ADDED(width) (PICK(a, b, EVERY_LANE(width, 0)) + PICK(a, b, EVERY_LANE(width, width)))

INLINE floats neighbours_added(floats a, floats b, int width) {
#ifdef __AVX512F__
    if (width == 8) return ADDED(8);
#endif
    if (width == 4) return ADDED(4);
    return width == 2 ? ADDED(2) : ADDED(1);
}

/* The sums over the lanes of `count` vectors, in the first lanes of one. Each is added in the same
   order whatever stands beside it: halves, then quarters, ... */
INLINE floats sums_of(floats *v, int count) {
#pragma GCC unroll 16
    for (int width = LANES / 2; width; width /= 2) {
        int half = (count + 1) / 2;
#pragma GCC unroll 16
        for (int i = 0; i < half; i++) v[i] = neighbours_added(v[2 * i], v[count > 1 ? 2 * i + 1 : 2 * i], width);
        count = half;
    }
    return v[0];
}

/* e^x to 2e-7, in a form that compilers turn into vector code (Cephes' polynomial). */
INLINE float exponential(float x) {
    x = x > 88 ? 88 : x < -87 ? -87 : x;
    float exponent = rintf(x * 1.44269504f);
    float r = x - exponent * 0.693359375f + exponent * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    uint32_t bits = (uint32_t)((int32_t)exponent + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}
