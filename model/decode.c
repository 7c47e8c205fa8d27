/* One decoding step of a transformer for a few texts: one new token each, all layers in one call.

   At one token per text every weight is read once and used once per text, so a step takes as long
   as memory needs to deliver the weights, if nothing else is in the way. Activations are float,
   weights float, bfloat16 or int8 with a scale for each
   output, cached keys and values float or bfloat16. `model/decode_native.py` compiles this
   file and describes the model in the structures below.

   Every output is summed by one thread in one order: the number of threads changes no bit.
   Letters: B texts, C channels, H query heads, K key and value heads, D channels per head. */

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

typedef enum { FLOAT, BFLOAT, INT8 } Kind;
typedef enum { SWIGLU, GEGLU, REGLU, GELU, RELU2 } Activation;

typedef struct {
    const void *weight; /* (outputs, inputs) */
    const float *scale; /* (outputs) of INT8, else NULL */
    const float *bias;  /* (outputs) or NULL */
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

/* Room for B texts: x (B, C), mixed (B, max(H * D, 2 * mlp)), qkv (B, (H + 2K) * D),
   scores (B * H, capacity), own (threads, B, widest input of a matrix). */
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

INLINE size_t bytes(Kind kind) { return kind == FLOAT ? 4 : kind == BFLOAT ? 2 : 1; }

INLINE float number(const void *data, size_t at, Kind kind) {
    if (kind == FLOAT) return ((const float *)data)[at];
    return kind == BFLOAT ? from_bfloat(((const uint16_t *)data)[at]) : ((const int8_t *)data)[at];
}

typedef float eight __attribute__((vector_size(32)));
typedef float four __attribute__((vector_size(16)));

/* LANES bytes as floats. In intrinsics: compilers convert a vector of bytes one lane at a time. */
INLINE floats widened(const char *w) {
#if defined __AVX512F__
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)w)));
#elif defined __AVX2__
    return (floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)w)));
#else
    floats wide;
    for (int i = 0; i < LANES; i++) wide[i] = ((const int8_t *)w)[i];
    return wide;
#endif
}

/* By halves: adding lane after lane would wait for each sum. */
INLINE float sum(floats v) {
    eight parts[LANES / 8];
    memcpy(parts, &v, sizeof parts);
    four halves[2];
    parts[0] = LANES == 16 ? parts[0] + parts[LANES / 8 - 1] : parts[0];
    memcpy(halves, parts, sizeof halves);
    four last = halves[0] + halves[1];
    return (last[0] + last[2]) + (last[1] + last[3]);
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

/* Turns a row of inputs, in place, into what `add_products` multiplies with weights of this kind:
   bfloat16 where the processor multiplies these, else of each PAIRS floats the even ones first. */
INLINE void arrange(float *x, int inputs, Kind kind) {
    if (kind != BFLOAT) return;
#ifdef __AVX512BF16__
    for (int c = 0; c < inputs; c++) {
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

#ifdef __AVX512BF16__
#define KIND_OF_INPUTS(kind) ((kind) == BFLOAT ? BFLOAT : FLOAT)
#else
#define KIND_OF_INPUTS(kind) FLOAT
#endif

/* sums[n] += PAIRS bfloat16 weights * inputs. */
INLINE void add_products(floats *sums, const char *weight, const float *x, size_t stride, int c,
                         int N) {
#ifdef __AVX512BF16__
    __m512bh w = (__m512bh)_mm512_loadu_si512(weight);
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) {
        const char *here = (const char *)(x + n * stride) + 2 * c;
        sums[n] = (floats)_mm512_dpbf16_ps((__m512)sums[n], w, (__m512bh)_mm512_loadu_si512(here));
    }
#else /* a word holds two bfloat16; shifted and masked they are floats */
    words both = *(const words *)weight;
    floats even = (floats)(both << 16), odd = (floats)(both & 0xffff0000u);
#pragma GCC unroll 16
    for (int n = 0; n < N; n++) {
        sums[n] += even * *(const floats *)(x + n * stride + c);
        sums[n] += odd * *(const floats *)(x + n * stride + c + LANES);
    }
#endif
}

/* Products of R rows of weights with N inputs: dots[r * N + n]. The rows after these are fetched
   on the way, so that memory never waits for sums. */
INLINE void dot(const char *weight, size_t row, const float *x, size_t stride, int inputs,
                float *dots, Kind kind, int R, int N) {
    floats sums[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int n = 0; n < N; n++) sums[r][n] = (floats){0};
    int c = 0, width = kind == BFLOAT ? PAIRS : LANES;
    for (; c + width <= inputs; c += width)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const char *here = weight + r * row + c * bytes(kind);
            __builtin_prefetch(here + R * row);
            if (kind == BFLOAT) add_products(sums[r], here, x, stride, c, N);
            else {
                floats w = kind == FLOAT ? *(const floats *)here : widened(here);
#pragma GCC unroll 16
                for (int n = 0; n < N; n++) sums[r][n] += w * *(const floats *)(x + n * stride + c);
            }
        }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int n = 0; n < N; n++) {
            float rest = 0;
            for (int i = c; i < inputs; i++)
                rest += number(weight + r * row, i, kind) * number(x + n * stride, i, KIND_OF_INPUTS(kind));
            dots[r * N + n] = sum(sums[r][n]) + rest;
        }
}

typedef void Dot(const char *, size_t, const float *, size_t, int, float *);
#define DOT(name, kind, R, N)                                                                      \
    static void name(const char *weight, size_t row, const float *x, size_t stride, int inputs,    \
                     float *dots) {                                                                \
        dot(weight, row, x, stride, inputs, dots, kind, R, N);                                     \
    }
DOT(float_single, FLOAT, 1, 1)
DOT(float_1, FLOAT, ROWS, 1)
DOT(float_2, FLOAT, ROWS, 2)
DOT(float_4, FLOAT, ROWS, 4)
DOT(float_8, FLOAT, ROWS / 2, 8)
DOT(bfloat_single, BFLOAT, 1, 1)
DOT(bfloat_1, BFLOAT, ROWS, 1)
DOT(bfloat_2, BFLOAT, ROWS, 2)
DOT(bfloat_4, BFLOAT, ROWS, 4)
DOT(bfloat_8, BFLOAT, ROWS / 2, 8)
DOT(int8_single, INT8, 1, 1)
DOT(int8_1, INT8, ROWS, 1)
DOT(int8_2, INT8, ROWS, 2)
DOT(int8_4, INT8, ROWS, 4)
DOT(int8_8, INT8, ROWS / 2, 8)

/* Tiles of outputs and texts whose sums registers can hold. */
typedef struct {
    Dot *dot;
    int rows, texts;
} Tile;
enum { SINGLE, TILES = 5 };
static const Tile tiles[3][TILES] = {
    {{float_single, 1, 1}, {float_1, ROWS, 1}, {float_2, ROWS, 2}, {float_4, ROWS, 4}, {float_8, ROWS / 2, 8}},
    {{bfloat_single, 1, 1}, {bfloat_1, ROWS, 1}, {bfloat_2, ROWS, 2}, {bfloat_4, ROWS, 4}, {bfloat_8, ROWS / 2, 8}},
    {{int8_single, 1, 1}, {int8_1, ROWS, 1}, {int8_2, ROWS, 2}, {int8_4, ROWS, 4}, {int8_8, ROWS / 2, 8}},
};

/* Outputs first ... first + rows - 1 of texts from ... to - 1, as many at a time as the tile has. */
static void some_outputs(const Matrix *m, Tile tile, const float *x, float *y, size_t y_stride,
                         int add, int first, int from, int to) {
    size_t row = m->inputs * bytes(m->kind);
    const char *weight = (const char *)m->weight + first * row;
    float dots[ROWS * 4];
    for (int b = from; b < to; b += tile.texts) {
        tile.dot(weight, row, x + (size_t)b * m->inputs, m->inputs, m->inputs, dots);
        for (int r = 0; r < tile.rows; r++)
            for (int n = 0; n < tile.texts; n++) {
                float value = dots[r * tile.texts + n] * (m->scale ? m->scale[first + r] : 1);
                value += m->bias ? m->bias[first + r] : 0;
                float *out = y + (b + n) * y_stride + first + r;
                *out = add ? *out + value : value;
            }
    }
}

/* y (B, outputs) = or += x (B, inputs) @ weight.T + bias, shared among the threads; x is left in
   another order. */
static void product(const Matrix *m, float *x, int texts, float *y, size_t y_stride, int add) {
    const Tile *of_kind = tiles[m->kind], *tile = of_kind + TILES - 1;
    while (tile->texts > texts) tile--;
    int blocks = m->outputs / tile->rows, whole = texts - texts % tile->texts;
    Tile rest = of_kind[tile->rows == ROWS], single = of_kind[SINGLE];
    for (int b = 0; b < texts; b++) arrange(x + (size_t)b * m->inputs, m->inputs, m->kind);
#pragma omp for schedule(static) nowait
    for (int block = 0; block < blocks; block++) {
        int first = block * tile->rows;
        some_outputs(m, *tile, x, y, y_stride, add, first, 0, whole);
        for (int o = first; o < first + tile->rows; o += rest.rows)
            some_outputs(m, rest, x, y, y_stride, add, o, whole, texts);
    }
#pragma omp single nowait
    for (int o = blocks * tile->rows; o < m->outputs; o++)
        some_outputs(m, single, x, y, y_stride, add, o, 0, texts);
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
        floats sums[W];
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
static void attend(float *q, const char *keys, const char *values, int seen, int size,
                   float *scores, Kind kind) {
    size_t row = size * bytes(kind);
    float scale = 1 / sqrtf((float)size), highest = -INFINITY, total = 0;
    arrange(q, size, kind);
    int s = 0;
    for (; s + ROWS <= seen; s += ROWS) tiles[kind][1].dot(keys + s * row, row, q, size, size, scores + s);
    for (; s < seen; s++) tiles[kind][SINGLE].dot(keys + s * row, row, q, size, size, scores + s);
    for (s = 0; s < seen; s++) highest = scores[s] > highest ? scores[s] : highest;
#pragma omp simd reduction(+ : total)
    for (s = 0; s < seen; s++) {
        scores[s] = exponential((scores[s] - highest) * scale);
        total += scores[s];
    }
    int c = 0;
    if (kind == FLOAT) c = blend(values, row, scores, seen, size, q, c, FLOAT, 4);
    else c = blend(values, row, scores, seen, size, q, c, BFLOAT, 4);
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
        attend(q + g * D, keys, values, position + 1, D, row, kind);
        memcpy(mixed + (size_t)(k * G + g) * D, q + g * D, D * sizeof(float));
    }
}

static void attention(const Model *m, int number, const Cache *cache, const Scratch *room,
                      const int32_t *positions, int texts) {
    size_t qkv_width = (size_t)(m->heads + 2 * m->kv_heads) * m->head_size;
    int K = m->kv_heads, G = m->heads / K;
#pragma omp for schedule(static)
    for (int i = 0; i < texts * K; i++) {
        int b = i / K, k = i % K;
        size_t offset = number * cache->layer_stride + b * cache->text_stride;
        float *qkv = room->qkv + b * qkv_width;
        float *mixed = room->mixed + (size_t)b * m->heads * m->head_size;
        float *scores = room->scores + (size_t)i * G * cache->capacity;
        const Layer *layer = m->layers + number;
        one_head(m, layer, cache, offset, qkv, mixed, scores, k, positions[b]);
    }
}

INLINE float activated(float x, Activation kind) {
    if (kind == REGLU) return x > 0 ? x : 0;
    if (kind == RELU2) return x > 0 ? x * x : 0;
    if (kind == SWIGLU) return x / (1 + exponential(-x));
    return x / (1 + exponential(-1.5957691216f * (x + 0.044715f * x * x * x))); /* tanh's GELU */
}

/* (B, F or 2F) becomes (B, F) in the first half of each row, which stays where it is. */
INLINE void activate(float *x, int size, int texts, Activation kind) {
    int gated = kind != GELU && kind != RELU2, blocks = (size + 63) / 64;
    size_t width = (size_t)size * (gated ? 2 : 1);
#pragma omp for schedule(static)
    for (int i = 0; i < texts * blocks; i++) {
        float *row = x + i / blocks * width;
        int from = i % blocks * 64, to = from + 64 < size ? from + 64 : size;
#pragma omp simd
        for (int f = from; f < to; f++) row[f] = activated(row[f], kind) * (gated ? row[size + f] : 1);
    }
}

static void mlp(const Model *m, const Layer *layer, float *own, const Scratch *room, int texts) {
    int F = m->mlp_size;
    size_t width = layer->up.outputs, C = layer->up.inputs;
    product(&layer->up, own, texts, room->mixed, width, 0);
    switch (m->activation) {
    case SWIGLU: activate(room->mixed, F, texts, SWIGLU); break;
    case GEGLU: activate(room->mixed, F, texts, GEGLU); break;
    case REGLU: activate(room->mixed, F, texts, REGLU); break;
    case GELU: activate(room->mixed, F, texts, GELU); break;
    default: activate(room->mixed, F, texts, RELU2);
    }
    for (int b = 0; b < texts; b++)
        memcpy(own + (size_t)b * F, room->mixed + b * width, F * sizeof(float));
    product(&layer->down, own, texts, room->x, C, 1);
}

static void embed(const Model *m, const Scratch *room, const int32_t *ids, const int32_t *positions,
                  int texts) {
    int C = m->embedding.inputs;
    for (int b = 0; b < texts; b++) {
        float *x = room->x + (size_t)b * C;
        size_t row = (size_t)ids[b] * C;
        float scale = m->embedding.scale ? m->embedding.scale[ids[b]] : 1;
        for (int c = 0; c < C; c++) x[c] = number(m->embedding.weight, row + c, m->embedding.kind) * scale;
        if (m->positions.weight)
            for (int c = 0; c < C; c++)
                x[c] += number(m->positions.weight, (size_t)positions[b] * C + c, m->positions.kind);
        if (m->embedding_normed) normalise(x, x, C, m->embedding_norm, m->eps, m->layer_norm);
    }
}

/* logits (B, V) of what follows ids (B), which stand at `positions` of the cache's texts. */
void decode_step(const Model *m, const Cache *cache, const Scratch *room, const int32_t *ids,
                 const int32_t *positions, int32_t texts, float *logits, int32_t threads) {
    int C = m->embedding.inputs, mixed = m->heads * m->head_size;
    embed(m, room, ids, positions, texts);
#pragma omp parallel num_threads(threads)
    {
        float *own = room->own + (size_t)omp_get_thread_num() * texts * room->width;
        for (int number = 0; number < m->count; number++) {
            const Layer *layer = m->layers + number;
            for (int b = 0; b < texts; b++)
                normalise(room->x + (size_t)b * C, own + (size_t)b * C, C, layer->attention_norm, m->eps, m->layer_norm);
            product(&layer->qkv, own, texts, room->qkv, layer->qkv.outputs, 0);
            attention(m, number, cache, room, positions, texts);
            memcpy(own, room->mixed, (size_t)texts * mixed * sizeof(float));
            product(&layer->out, own, texts, room->x, C, 1);
            for (int b = 0; b < texts; b++)
                normalise(room->x + (size_t)b * C, own + (size_t)b * C, C, layer->mlp_norm, m->eps, m->layer_norm);
            mlp(m, layer, own, room, texts);
        }
        for (int b = 0; b < texts; b++) {
            float *last = own + (size_t)b * C;
            normalise(room->x + (size_t)b * C, last, C, m->norm, m->eps, m->layer_norm);
            for (int c = 0; c < C; c++) last[c] *= m->logit_scale;
        }
        product(&m->head, own, texts, logits, m->head.outputs, 0);
    }
}
