/* Products of matrices with few rows of inputs, as fast as memory delivers the weights. */

#pragma once
#include "inputs.h"

typedef struct {
    const void *weight;  /* (outputs, inputs); a group of INT4 is 16 bytes, its first half low */
    const float *scale;  /* (outputs) of INT8, else NULL */
    const void *factors; /* (outputs, inputs / GROUP) pairs of bfloat16, scale and zero, of INT4 */
    const float *bias;   /* (outputs) or NULL */
    int32_t kind, outputs, inputs;
} Matrix;

/* sums[n * R] += products of a vector of weights of this kind with inputs of N rows: LANES floats,
   else PAIRS. Sums with int8 weights are 32 bit integers. In intrinsics where compilers convert
   a vector of bytes one lane at a time. */
INLINE void add_products(floats *sums, ints *counts, const char *weight, const float *x,
                         size_t stride, int c, Kind kind, int R, int N) {
#define EVERY_ROW _Pragma("GCC unroll 16") for (int n = 0; n < N; n++)
#define HERE ((const char *)(x + n * stride) + c * bytes(FORM(kind)))
    if (kind == FLOAT) {
        floats w = *(const floats *)weight;
        EVERY_ROW sums[n * R] += w * *(const floats *)HERE;
    } else if (kind == BFLOAT) {
#ifdef __AVX512BF16__
        __m512bh w = (__m512bh)_mm512_loadu_si512(weight);
        EVERY_ROW sums[n * R] = (floats)_mm512_dpbf16_ps((__m512)sums[n * R], w, (__m512bh)_mm512_loadu_si512(HERE));
#else /* a word holds two bfloat16; shifted and masked they are floats */
        words both = *(const words *)weight;
        floats even = (floats)(both << 16), odd = (floats)(both & 0xffff0000u);
        EVERY_ROW sums[n * R] += even * *(const floats *)HERE;
        EVERY_ROW sums[n * R] += odd * *(const floats *)(HERE + VECTOR);
#endif
    } else {
#if defined __AVX512VNNI__ && defined __AVX512BW__
        __m512i w = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)weight));
        EVERY_ROW counts[n * R] = (ints)_mm512_dpwssd_epi32((__m512i)counts[n * R], w, _mm512_loadu_si512(HERE));
#elif defined __AVX512BW__
        __m512i w = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)weight));
        EVERY_ROW counts[n * R] += (ints)_mm512_madd_epi16(w, _mm512_loadu_si512(HERE));
#elif defined __AVX2__ && !defined __AVX512F__
        __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)weight));
        EVERY_ROW {
            __m256i inputs = _mm256_loadu_si256((const __m256i *)HERE);
            counts[n * R] += (ints)_mm256_madd_epi16(w, inputs);
        }
#else
        EVERY_ROW {
            const int8_t *w = (const int8_t *)weight;
            const int16_t *inputs = (const int16_t *)HERE;
            ints pairs;
            for (int i = 0; i < LANES; i++) pairs[i] = w[2 * i] * inputs[2 * i] + w[2 * i + 1] * inputs[2 * i + 1];
            counts[n * R] += pairs;
        }
#endif
    }
#undef EVERY_ROW
#undef HERE
}

enum { AHEAD = 8192 }; /* bytes: int8 weights from memory came twice as fast as with 4 rows */

/* Products of R rows of weights with N rows of inputs: dots[n * R + r]. Weights further on are
   fetched on the way, so that memory never waits for sums. The array of sums has a size of its
   own: with R and N as its sizes, compilers keep it in memory (half the speed). */
INLINE void dot(const char *weight, size_t row, const float *x, size_t stride, int inputs,
                float *dots, Kind kind, int R, int N) {
    floats sums[ROWS * 8], some;
    ints counts[ROWS * 8];
#pragma GCC unroll 16
    for (int i = 0; i < R * N; i++) sums[i] = (floats){0}, counts[i] = (ints){0};
    int c = 0, width = kind == FLOAT ? LANES : PAIRS;
    for (; c + width <= inputs; c += width)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const char *here = weight + r * row + c * bytes(kind);
            __builtin_prefetch(here + AHEAD);
            add_products(sums + r, counts + r, here, x, stride, c, kind, R, N);
        }
#pragma GCC unroll 16
    for (int i = 0; i < R * N; i++)
        if (kind == INT8) sums[i] = __builtin_convertvector(counts[i], floats);
    some = sums_of(sums, R * N);
    memcpy(dots, &some, R * N * sizeof(float));
    for (int i = 0; c < inputs && i < R * N; i++)
        for (int at = c; at < inputs; at++)
            dots[i] += value_at(weight + i % R * row, at, kind) * value_at(x + i / R * stride, at, FORM(kind));
#pragma GCC unroll 16
    for (int i = 0; i < R * N; i++)
        if (kind == INT8) dots[i] *= x[i / R * stride + inputs - 1];
}

/* Integers 0 ... 15 of a group of INT4 times 16 bit inputs, summed in some lanes. */
INLINE floats group_product(const char *weight, const int16_t *x) {
#if defined __AVX512BW__
    __m128i both = _mm_loadu_si128((const __m128i *)weight), low = _mm_set1_epi8(15);
    __m128i rest = _mm_and_si128(_mm_srli_epi16(both, 4), low);
    __m512i w = _mm512_cvtepu8_epi16(_mm256_set_m128i(rest, _mm_and_si128(both, low)));
    return (floats)_mm512_cvtepi32_ps(_mm512_madd_epi16(w, _mm512_loadu_si512(x)));
#elif defined __AVX2__ && !defined __AVX512F__
    __m128i both = _mm_loadu_si128((const __m128i *)weight), low = _mm_set1_epi8(15);
    __m256i first = _mm256_cvtepu8_epi16(_mm_and_si128(both, low));
    __m256i rest = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(both, 4), low));
    __m256i total = _mm256_madd_epi16(first, _mm256_loadu_si256((const __m256i *)x));
    total = _mm256_add_epi32(total, _mm256_madd_epi16(rest, _mm256_loadu_si256((const __m256i *)(x + 16))));
    return (floats)_mm256_cvtepi32_ps(total);
#else
    const uint8_t *w = (const uint8_t *)weight;
    ints total = {0};
    for (int i = 0; i < GROUP / 2; i++) total[i % LANES] += (w[i] & 15) * x[i] + (w[i] >> 4) * x[i + 16];
    return __builtin_convertvector(total, floats);
#endif
}

/* Numbers of four bytes, zeros beyond `count`. */
INLINE floats first_lanes(const void *from, int count) {
#ifdef __AVX512F__
    return (floats)_mm512_maskz_loadu_ps(count < LANES ? (1 << count) - 1 : 0xffff, from);
#else
    floats lanes = {0};
    memcpy(&lanes, from, (count < LANES ? count : LANES) * sizeof(float));
    return lanes;
#endif
}

/* `dot` for INT4, whose weights are number * scale + zero - 8 * scale. */
INLINE void dot_groups(const char *weight, const char *factors, const float *x, size_t stride,
                       int inputs, float *dots, int R, int N) {
    int groups = inputs / GROUP, g = 0;
    floats sums[ROWS * 8], some;
#pragma GCC unroll 16
    for (int i = 0; i < R * N; i++) sums[i] = (floats){0};
    for (; g < groups; g++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const char *here = weight + (size_t)r * inputs / 2 + g * (GROUP / 2);
            __builtin_prefetch(here + AHEAD);
            floats scale = (floats)(((words){0} + ((const pair *)factors)[r * groups + g]) << 16);
#pragma GCC unroll 16
            for (int n = 0; n < N; n++)
                sums[n * R + r] += scale * group_product(here, (const int16_t *)(x + n * stride) + g * GROUP);
        }
    for (g = 0; g < groups; g += LANES)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            words both = (words)first_lanes(factors + 4 * (r * groups + g), groups - g);
            floats zero = (floats)(both & 0xffff0000u) - 8 * (floats)(both << 16);
#pragma GCC unroll 16
            for (int n = 0; n < N; n++)
                sums[n * R + r] += zero * first_lanes(group_sums(x + n * stride, inputs) + g, groups - g);
        }
    some = sums_of(sums, R * N);
    memcpy(dots, &some, R * N * sizeof(float));
#pragma GCC unroll 16
    for (int i = 0; i < R * N; i++) dots[i] *= x[i / R * stride + inputs - 1];
}

/* Outputs first ... last - 1 of N rows of x, R at a time; last - first is a multiple of R. */
INLINE void tile(const Matrix *m, const float *x, float *y, size_t y_stride, int add, int first,
                 int last, Kind kind, int R, int N) {
    size_t inputs = m->inputs, row = kind == INT4 ? inputs / 2 : inputs * bytes(kind);
    const char *weights = m->weight, *factors = m->factors;
    for (int o = first; o < last; o += R) {
        float dots[ROWS * 8];
        if (kind == INT4)
            dot_groups(weights + o * row, factors + o * inputs / GROUP * 4, x, inputs, inputs, dots, R, N);
        else dot(weights + o * row, row, x, inputs, inputs, dots, kind, R, N);
#pragma GCC unroll 16
        for (int n = 0; n < N; n++)
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                float value = dots[n * R + r] * (kind == INT8 ? m->scale[o + r] : 1);
                value += m->bias ? m->bias[o + r] : 0;
                float *out = y + n * y_stride + o + r;
                *out = add ? *out + value : value;
            }
    }
}

typedef void Tile(const Matrix *, const float *, float *, size_t, int, int, int);
#define TILE(name, kind, R, N)                                                                     \
    static void name(const Matrix *m, const float *x, float *y, size_t y_stride, int add,          \
                     int first, int last) {                                                        \
        tile(m, x, y, y_stride, add, first, last, kind, R, N);                                     \
    }
/* Tiles of outputs and rows whose sums registers can hold; the first is for what is left over. */
#define TILES_OF(name, kind)                                                                       \
    TILE(name##_single, kind, 1, 1)                                                                \
    TILE(name##_1, kind, ROWS, 1)                                                                  \
    TILE(name##_2, kind, ROWS, 2)                                                                  \
    TILE(name##_4, kind, ROWS, 4)                                                                  \
    TILE(name##_8, kind, ROWS / 2, 8)                                                              \
    static Tile *const name##_tiles[] = {name##_single, name##_1, name##_2, name##_4, name##_8};
TILES_OF(float, FLOAT)
TILES_OF(bfloat, BFLOAT)
TILES_OF(int8, INT8)
TILES_OF(int4, INT4)
static Tile *const *const tiles[] = {float_tiles, bfloat_tiles, int8_tiles, int4_tiles};
static const int rows_of[] = {1, 1, 2, 4, 8};
enum { WIDEST = 4, STRIP = 16 * ROWS };

/* Outputs first ... last - 1 of all rows. With many rows a strip of weights stays in the cache
   until it is multiplied with all of them. */
static void outputs(const Matrix *m, const float *x, int rows, float *y, size_t y_stride, int add,
                    int first, int last) {
    int width = rows > rows_of[WIDEST] ? STRIP : last - first;
    for (int o = first; o < last; o += width) {
        int end = o + width < last ? o + width : last, whole = end - (end - o) % ROWS;
        for (int n = 0, t = WIDEST; n < rows; n += rows_of[t]) {
            while (rows_of[t] > rows - n) t--;
            const float *inputs = x + (size_t)n * m->inputs;
            tiles[m->kind][t](m, inputs, y + n * y_stride, y_stride, add, o, whole);
            for (int i = n; whole < end && i < n + rows_of[t]; i++)
                tiles[m->kind][0](m, x + (size_t)i * m->inputs, y + i * y_stride, y_stride, add, whole, end);
        }
    }
}

/* Inputs of products: x (rows, inputs of the matrix). This thread makes the rows first ... last - 1
   ready. With few rows each thread makes all of them for itself: less work than to wait for the
   others. */
typedef struct {
    float *x;
    int rows, first, last, shared;
} Inputs;

/* y (rows, outputs) = or += x @ weight.T + bias, shared among the threads; x is left in another
   form. */
static void product(const Matrix *m, Inputs in, float *y, size_t y_stride, int add) {
    int64_t blocks = (m->outputs + ROWS - 1) / ROWS;
    int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    int first = blocks * thread / threads * ROWS, last = blocks * (thread + 1) / threads * ROWS;
    for (int n = in.first; n < in.last; n++) pack(in.x + (size_t)n * m->inputs, m->inputs, m->kind);
    if (in.shared) {
#pragma omp barrier
    }
    outputs(m, in.x, in.rows, y, y_stride, add, first, last < m->outputs ? last : m->outputs);
#pragma omp barrier
}
