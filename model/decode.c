/* A few texts go on in a transformer: one new token each, or a short prompt, all layers in one call.

   At one token per text every weight is read once and used once per text, so a step takes as long
   as memory needs to deliver the weights, if nothing else is in the way. Activations are float,
   cached keys and values float or bfloat16, weights float, bfloat16 or those of
   `model/quantization.py`: int8 with a scale for each output, int4 with a scale and a zero for each
   group of inputs. `model/decode_native.py` compiles this file and describes the model in the
   structures below.

   Every output is summed by one thread in one order: neither the number of threads nor what else
   is read in the same call changes a bit.
   Letters: B texts, N rows (new tokens of all texts), C channels, H query heads, K key and value
   heads, D channels per head. */

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
typedef enum { SWIGLU, GEGLU, REGLU, GELU, RELU2 } Activation;

enum { GROUP = 32 }; /* inputs that share a scale and a zero in INT4 */

typedef struct {
    const void *weight;  /* (outputs, inputs); a group of INT4 is 16 bytes, its first half low */
    const float *scale;  /* (outputs) of INT8, else NULL */
    const void *factors; /* (outputs, inputs / GROUP) pairs of bfloat16, scale and zero, of INT4 */
    const float *bias;   /* (outputs) or NULL */
    int32_t kind, outputs, inputs;
} Matrix;

typedef struct {
    const float *gain, *shift; /* NULL: ones, zeros */
} Norm;

typedef struct {
    Norm attention_norm, mlp_norm;
    const float *q_gain, *k_gain;
    Matrix qkv, out, up, down;
} Layer;

typedef struct {
    Matrix embedding, positions, head; /* positions.weight is NULL where they are rotations */
    Norm embedding_norm, norm;
    const float *cos, *sin; /* (positions, D), or NULL */
    const Layer *layers;
    int32_t count, heads, kv_heads, head_size, mlp_size, activation;
    int32_t layer_norm, embedding_normed, qk_norm;
    float eps, logit_scale;
} Model;

typedef struct {
    void *keys, *values;               /* of layer 0 and the first text: (K, capacity, D) */
    int64_t layer_stride, text_stride; /* in numbers */
    int32_t capacity, kind;
} Cache;

/* The text in place slots[b] of the cache goes on with ids[firsts[b]] ... ids[firsts[b + 1] - 1],
   from the position starts[b] on. */
typedef struct {
    const int32_t *ids, *firsts, *starts, *slots;
    int32_t texts;
} Batch;

/* Room for N rows: x (N, C), mixed (N, max(H * D, 2 * mlp)), qkv (N, (H + 2K) * D),
   scores (B * H, capacity), own (threads, N, widest input of a matrix). */
typedef struct {
    float *x, *mixed, *qkv, *scores, *own;
    int32_t width;
} Scratch;

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

INLINE float number(const void *data, size_t at, Kind kind) {
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
    float turns = rintf(x * 1.44269504f);
    float r = x - turns * 0.693359375f + turns * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    uint32_t bits = (uint32_t)((int32_t)turns + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* The form in which inputs are multiplied with weights of a kind. */
#ifdef __AVX512BF16__
#define FORM(kind) ((kind) == INT8 || (kind) == INT4 ? INT16 : (kind))
#else
#define FORM(kind) ((kind) == INT8 || (kind) == INT4 ? INT16 : FLOAT)
#endif

/* A row of inputs becomes bfloat16, in place; where the processor cannot multiply these, of each
   PAIRS floats the even ones come first. */
INLINE void arrange_bfloat(float *x, int inputs) {
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

/* A row of inputs becomes 16 bit integers, in place, and in its last four bytes what one of them
   is worth: NaN where an input is not finite. Their sums with int8 weights are exact; what is
   rounded away is at most 2^-16 of the largest input, where a bfloat16 loses 2^-9 of each. */
INLINE void arrange_int16(float *x, int inputs) {
    float largest = 0, strange = 0;
#pragma omp simd reduction(max : largest) reduction(+ : strange)
    for (int c = 0; c < inputs; c++) {
        float size = fabsf(x[c]);
        largest = size > largest ? size : largest;
        strange += x[c] - x[c];
    }
    int additions = (inputs + PAIRS - 1) / PAIRS * 2;
    float most = 2147483520.0f / (128.0f * additions), top = most < INT16_MAX ? floorf(most) : INT16_MAX;
    float turn = strange == 0 && largest > 0 ? top / largest : 0, worth = largest / top + strange;
    for (int c = 0; c < inputs; c += LANES) {
        int16_t block[LANES];
        int count = inputs - c < LANES ? inputs - c : LANES;
        if (count == LANES)
            for (int i = 0; i < LANES; i++) block[i] = (int16_t)(int32_t)rintf(x[c + i] * turn);
        else
            for (int i = 0; i < count; i++) block[i] = (int16_t)(int32_t)rintf(x[c + i] * turn);
        memcpy((char *)x + 2 * c, block, 2 * count);
    }
    x[inputs - 1] = worth;
}

/* For INT4 the integers are followed by the sums of their groups, as floats. */
INLINE const float *group_sums(const float *x, int inputs) { return x + inputs / 2; }

INLINE void arrange_groups(float *x, int inputs) {
    arrange_int16(x, inputs);
    for (int g = 0; g < inputs / GROUP; g++) {
        const int16_t *group = (const int16_t *)x + g * GROUP;
        int32_t total = 0;
        for (int i = 0; i < GROUP; i++) total += group[i];
        float value = total;
        memcpy(x + inputs / 2 + g, &value, sizeof value);
    }
}

INLINE void arrange(float *x, int inputs, Kind kind) {
    if (kind == BFLOAT) arrange_bfloat(x, inputs);
    if (kind == INT8) arrange_int16(x, inputs);
    if (kind == INT4) arrange_groups(x, inputs);
}

/* sums[n * R] += products of a vector of weights of this kind with inputs of N rows: LANES floats,
   else PAIRS. Sums with int8 weights are 32 bit integers. In intrinsics where compilers convert
   a vector of bytes one lane at a time. */
INLINE void add_products(floats *sums, ints *counts, const char *weight, const float *x, size_t stride, int c,
                         Kind kind, int R, int N) {
#define EVERY_ROW                                                                                  \
    _Pragma("GCC unroll 16") for (int n = 0; n < N; n++)
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
            dots[i] += number(weight + i % R * row, at, kind) * number(x + i / R * stride, at, FORM(kind));
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
   until all have met it. */
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

/* y (N, outputs) = or += x (N, inputs) @ weight.T + bias, shared among the threads; x is left in
   another form. */
static void product(const Matrix *m, float *x, int rows, float *y, size_t y_stride, int add) {
    int64_t blocks = (m->outputs + ROWS - 1) / ROWS, me = omp_get_thread_num(), all = omp_get_num_threads();
    int first = blocks * me / all * ROWS, last = blocks * (me + 1) / all * ROWS;
    for (int n = 0; n < rows; n++) arrange(x + (size_t)n * m->inputs, m->inputs, m->kind);
    outputs(m, x, rows, y, y_stride, add, first, last < m->outputs ? last : m->outputs);
#pragma omp barrier
}

/* y = (x - mean) / deviation * gain + shift, or without mean and shift (RMSNorm). */
static void normalise(const float *x, float *y, int size, Norm norm, float eps, int layer_norm) {
    float mean = 0, squares = 0;
    if (layer_norm) {
#pragma omp simd reduction(+ : mean)
        for (int c = 0; c < size; c++) mean += x[c];
        mean /= size;
    }
#pragma omp simd reduction(+ : squares)
    for (int c = 0; c < size; c++) squares += (x[c] - mean) * (x[c] - mean);
    float scale = 1 / sqrtf(squares / size + eps);
    for (int c = 0; c < size; c++) y[c] = (x[c] - mean) * scale;
    if (norm.gain)
        for (int c = 0; c < size; c++) y[c] *= norm.gain[c];
    if (norm.shift)
        for (int c = 0; c < size; c++) y[c] += norm.shift[c];
}

/* Turns channel i with channel i + D / 2; the sines of the first half are negative. */
INLINE void rotate(float *x, const float *cos, const float *sin, int size) {
    int half = size / 2;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] + b * sin[i];
        x[i + half] = b * cos[i + half] + a * sin[i + half];
    }
}

INLINE void store(void *data, size_t at, const float *x, int size, Kind kind) {
    for (int i = 0; i < size; i++)
        if (kind == FLOAT) ((float *)data)[at + i] = x[i];
        else ((uint16_t *)data)[at + i] = to_bfloat(x[i]);
}

/* mixed (D) = sum over s of weights[s] * values[s], W vectors of channels at a time. */
INLINE int blend(const char *values, size_t row, const float *weights, int seen, int size,
                 float *mixed, int c, Kind kind, int W) {
    for (; c + W * LANES <= size; c += W * LANES) {
        floats sums[4];
#pragma GCC unroll 16
        for (int w = 0; w < W; w++) sums[w] = (floats){0};
        for (int s = 0; s < seen; s++)
#pragma GCC unroll 16
            for (int w = 0; w < W; w++) {
                const char *here = values + s * row + c * bytes(kind);
                if (kind == FLOAT) sums[w] += weights[s] * ((const floats *)here)[w];
                else {
                    words both = ((const words *)here)[w / 2];
                    if (w % 2) both &= 0xffff0000u;
                    else both <<= 16;
                    sums[w] += weights[s] * (floats)both;
                }
            }
#pragma GCC unroll 16
        for (int w = 0; w < W; w++)
            for (int i = 0; i < LANES; i++)
                mixed[c + (kind == FLOAT ? w * LANES + i : w / 2 * PAIRS + 2 * i + w % 2)] = sums[w][i];
    }
    return c;
}

/* One query head over the keys and values seen so far; q gives way to the mixed values. */
INLINE void attend(float *q, const char *keys, const char *values, int seen, int size,
                   float *scores, Kind kind) {
    size_t row = size * bytes(kind);
    float scale = 1 / sqrtf((float)size), highest = -INFINITY, total = 0;
    arrange(q, size, kind);
    int s = 0;
    for (; s + ROWS <= seen; s += ROWS) dot(keys + s * row, row, q, size, size, scores + s, kind, ROWS, 1);
    for (; s < seen; s++) dot(keys + s * row, row, q, size, size, scores + s, kind, 1, 1);
    for (s = 0; s < seen; s++) highest = scores[s] > highest ? scores[s] : highest;
#pragma omp simd reduction(+ : total)
    for (s = 0; s < seen; s++) {
        scores[s] = exponential((scores[s] - highest) * scale);
        total += scores[s];
    }
    int c = blend(values, row, scores, seen, size, q, 0, kind, 4);
    for (; c < size; c++) {
        q[c] = 0;
        for (s = 0; s < seen; s++) q[c] += scores[s] * number(values + s * row, c, kind);
    }
    for (c = 0; c < size; c++) q[c] /= total;
}

/* Normalise and turn, remember the newest key and value, attend: one key head of one text. */
static void one_head(const Model *m, const Layer *layer, const Cache *cache, size_t offset,
                     float *qkv, float *mixed, float *scores, int k, int position) {
    Kind kind = cache->kind;
    int D = m->head_size, G = m->heads / m->kv_heads;
    float *q = qkv + (size_t)k * G * D, *key = qkv + (size_t)(m->heads + k) * D;
    for (int head = 0; head <= G; head++) {
        float *x = head < G ? q + head * D : key;
        Norm gain = {head < G ? layer->q_gain : layer->k_gain, NULL};
        if (m->qk_norm) normalise(x, x, D, gain, m->eps, 0);
        if (m->cos) rotate(x, m->cos + (size_t)position * D, m->sin + (size_t)position * D, D);
    }
    size_t start = offset + (size_t)k * cache->capacity * D, newest = start + (size_t)position * D;
    store(cache->keys, newest, key, D, kind);
    store(cache->values, newest, key + (size_t)m->kv_heads * D, D, kind);
    for (int g = 0; g < G; g++) {
        float *row = scores + (size_t)g * cache->capacity;
        const char *keys = (const char *)cache->keys + start * bytes(kind);
        const char *values = (const char *)cache->values + start * bytes(kind);
        if (kind == FLOAT) attend(q + g * D, keys, values, position + 1, D, row, FLOAT);
        else attend(q + g * D, keys, values, position + 1, D, row, BFLOAT);
        memcpy(mixed + (size_t)(k * G + g) * D, q + g * D, D * sizeof(float));
    }
}

static void attention(const Model *m, int number, const Cache *cache, const Scratch *room,
                      const Batch *batch) {
    size_t qkv_width = (size_t)(m->heads + 2 * m->kv_heads) * m->head_size;
    size_t mixed_width = (size_t)m->heads * m->head_size;
    int K = m->kv_heads, G = m->heads / K;
#pragma omp for schedule(static)
    for (int i = 0; i < batch->texts * K; i++) {
        int b = i / K, k = i % K, first = batch->firsts[b];
        size_t offset = number * cache->layer_stride + batch->slots[b] * cache->text_stride;
        float *scores = room->scores + (size_t)i * G * cache->capacity;
        for (int n = first; n < batch->firsts[b + 1]; n++)
            one_head(m, m->layers + number, cache, offset, room->qkv + n * qkv_width,
                     room->mixed + n * mixed_width, scores, k, batch->starts[b] + n - first);
    }
}

INLINE float activated(float x, Activation kind) {
    if (kind == REGLU) return x > 0 ? x : 0;
    if (kind == RELU2) return x > 0 ? x * x : 0;
    if (kind == SWIGLU) return x / (1 + exponential(-x));
    return x / (1 + exponential(-1.5957691216f * (x + 0.044715f * x * x * x))); /* tanh's GELU */
}

/* (F or 2F) becomes (F). */
INLINE void activate(const float *x, float *y, int size, Activation kind) {
    int gated = kind != GELU && kind != RELU2;
#pragma omp simd
    for (int f = 0; f < size; f++) y[f] = activated(x[f], kind) * (gated ? x[size + f] : 1);
}

/* Every thread activates all rows for itself: less work than waiting for each other once more. */
static void mlp(const Model *m, const Layer *layer, float *own, const Scratch *room, int rows) {
    int F = m->mlp_size;
    size_t width = layer->up.outputs;
    product(&layer->up, own, rows, room->mixed, width, 0);
    for (int n = 0; n < rows; n++) {
        const float *x = room->mixed + n * width;
        float *y = own + (size_t)n * F;
        switch (m->activation) {
        case SWIGLU: activate(x, y, F, SWIGLU); break;
        case GEGLU: activate(x, y, F, GEGLU); break;
        case REGLU: activate(x, y, F, REGLU); break;
        case GELU: activate(x, y, F, GELU); break;
        default: activate(x, y, F, RELU2);
        }
    }
    product(&layer->down, own, rows, room->x, layer->down.outputs, 1);
}

static void embed(const Model *m, float *x, int32_t id, int32_t position) {
    int C = m->embedding.inputs;
    size_t row = (size_t)id * C;
    float scale = m->embedding.scale ? m->embedding.scale[id] : 1;
    for (int c = 0; c < C; c++) x[c] = number(m->embedding.weight, row + c, m->embedding.kind) * scale;
    if (m->positions.weight)
        for (int c = 0; c < C; c++)
            x[c] += number(m->positions.weight, (size_t)position * C + c, m->positions.kind);
    if (m->embedding_normed) normalise(x, x, C, m->embedding_norm, m->eps, m->layer_norm);
}

/* (rows, C) of the residual stream from `x` on, normalised into `own`. */
static void normalised(const Model *m, const float *x, float *own, int rows, Norm norm) {
    size_t C = m->embedding.inputs;
    for (int n = 0; n < rows; n++) normalise(x + n * C, own + n * C, C, norm, m->eps, m->layer_norm);
}

static void one_layer(const Model *m, int number, const Cache *cache, const Scratch *room,
                      const Batch *batch, float *own, int rows) {
    const Layer *layer = m->layers + number;
    normalised(m, room->x, own, rows, layer->attention_norm);
    product(&layer->qkv, own, rows, room->qkv, layer->qkv.outputs, 0);
    attention(m, number, cache, room, batch);
    memcpy(own, room->mixed, (size_t)rows * layer->out.inputs * sizeof(float));
    product(&layer->out, own, rows, room->x, layer->out.outputs, 1);
    normalised(m, room->x, own, rows, layer->mlp_norm);
    mlp(m, layer, own, room, rows);
}

/* logits (B, V) after the last new token of each text. */
void decode_step(const Model *m, const Cache *cache, const Scratch *room, const Batch *batch,
                 float *logits, int32_t threads) {
    int rows = batch->firsts[batch->texts];
    size_t C = m->embedding.inputs;
    for (int b = 0; b < batch->texts; b++)
        for (int n = batch->firsts[b]; n < batch->firsts[b + 1]; n++)
            embed(m, room->x + n * C, batch->ids[n], batch->starts[b] + n - batch->firsts[b]);
#pragma omp parallel num_threads(threads)
    {
        float *own = room->own + (size_t)omp_get_thread_num() * rows * room->width;
        for (int number = 0; number < m->count; number++)
            one_layer(m, number, cache, room, batch, own, rows);
        for (int b = 0; b < batch->texts; b++) {
            float *last = own + b * C;
            normalised(m, room->x + (batch->firsts[b + 1] - 1) * C, last, 1, m->norm);
            for (size_t c = 0; c < C; c++) last[c] *= m->logit_scale;
        }
        product(&m->head, own, batch->texts, logits, m->head.outputs, 0);
    }
}

/* Of each row of scores (rows, count), `stride` apart: where its largest is, and the logarithm of
   the sum of all exponentials, which a NaN makes NaN. */
void summarise(const float *scores, int64_t stride, int32_t rows, int32_t count, int64_t *places,
               float *totals) {
    enum { BLOCK = 256 };
    for (int n = 0; n < rows; n++) {
        const float *row = scores + n * stride;
        float best = -INFINITY, total = 0;
        int place = 0, end = 0;
        for (int from = 0; from < count; from += BLOCK) {
            int to = from + BLOCK < count ? from + BLOCK : count;
            float highest = -INFINITY;
#pragma omp simd reduction(max : highest)
            for (int i = from; i < to; i++) highest = row[i] > highest ? row[i] : highest;
            if (highest > best) best = highest, place = from, end = to;
        }
        while (place + 1 < end && row[place] != best) place++;
#pragma omp simd reduction(+ : total)
        for (int i = 0; i < count; i++) total += exponential(row[i] - best);
        places[n] = place, totals[n] = best + logf(total);
    }
}
