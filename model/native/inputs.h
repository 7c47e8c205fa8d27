/* Inputs of a matrix in the form in which they are multiplied with weights of its kind. */

#pragma once
#include "numbers.h"

enum { GROUP = 32 }; /* inputs that share a scale and a zero in INT4 */

/* The form in which inputs are multiplied with weights of a kind. */
#ifdef __AVX512BF16__
#define FORM(kind) ((kind) == INT8 || (kind) == INT4 ? INT16 : (kind))
#else
#define FORM(kind) ((kind) == INT8 || (kind) == INT4 ? INT16 : FLOAT)
#endif

/* A row of inputs becomes bfloat16, in place; where the processor cannot multiply these, of each
   PAIRS floats the even ones come first. */
INLINE void pack_bfloat(float *x, int inputs) {
#ifdef __AVX512BF16__
    int c = 0;
    for (; c + LANES <= inputs; c += LANES) {
        __m256bh halves = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + c));
        memcpy((char *)x + 2 * c, &halves, sizeof halves);
    }
    for (; c < inputs; c++) {
        uint16_t half = to_bfloat(x[c]);
        memcpy((char *)x + 2 * c, &half, 2);
    }
#else
    float block[PAIRS];
    for (int c = 0; c + PAIRS <= inputs; c += PAIRS) {
        memcpy(block, x + c, sizeof block);
        for (int i = 0; i < LANES; i++) {
            x[c + i] = block[2 * i];
            x[c + LANES + i] = block[2 * i + 1];
        }
    }
#endif
}

/* A row of inputs becomes 16 bit integers, in place, with their scale in its last four bytes: NaN
   where an input is not finite. Their sums with int8 weights are exact; what is
   rounded away is at most 2^-16 of the largest input, where a bfloat16 loses 2^-9 of each. */
INLINE void pack_int16(float *x, int inputs) {
    float largest = 0, nonfinite = 0;
#pragma omp simd reduction(max : largest) reduction(+ : nonfinite)
    for (int c = 0; c < inputs; c++) {
        float size = fabsf(x[c]);
        largest = size > largest ? size : largest;
        nonfinite += x[c] - x[c];
    }
    int additions = (inputs + PAIRS - 1) / PAIRS * 2;
    float most = 2147483520.0f / (128.0f * additions), top = most < INT16_MAX ? floorf(most) : INT16_MAX;
    float inv_scale = nonfinite == 0 && largest > 0 ? top / largest : 0;
    float scale = largest / top + nonfinite;
    for (int c = 0; c < inputs; c += LANES) {
        int16_t block[LANES];
        int count = inputs - c < LANES ? inputs - c : LANES;
        if (count == LANES)
            for (int i = 0; i < LANES; i++) block[i] = (int16_t)(int32_t)rintf(x[c + i] * inv_scale);
        else
            for (int i = 0; i < count; i++) block[i] = (int16_t)(int32_t)rintf(x[c + i] * inv_scale);
        memcpy((char *)x + 2 * c, block, 2 * count);
    }
    x[inputs - 1] = scale;
}

/* For INT4 the integers are followed by the sums of their groups, as floats. */
INLINE const float *group_sums(const float *x, int inputs) { return x + inputs / 2; }

INLINE void pack_groups(float *x, int inputs) {
    pack_int16(x, inputs);
    for (int g = 0; g < inputs / GROUP; g++) {
        const int16_t *group = (const int16_t *)x + g * GROUP;
        int32_t total = 0;
        for (int i = 0; i < GROUP; i++) total += group[i];
        float value = total;
        memcpy(x + inputs / 2 + g, &value, sizeof value);
    }
}

INLINE void pack(float *x, int inputs, Kind kind) {
    if (kind == BFLOAT) pack_bfloat(x, inputs);
    if (kind == INT8) pack_int16(x, inputs);
    if (kind == INT4) pack_groups(x, inputs);
}
