/* Attention of new tokens over the cache. */

#pragma once
#include "transformer.h"

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

/* Rotates the pair of channels i and i + D / 2; the sines of the first half are negative. */
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
INLINE int weighted_sum(const char *values, size_t row, const float *weights, int seen, int size,
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

/* One query head over the keys and values so far; the weighted sum of the values replaces q. */
INLINE void attend(float *q, const char *keys, const char *values, int seen, int size,
                   float *scores, Kind kind) {
    size_t row = size * bytes(kind);
    float scale = 1 / sqrtf((float)size), highest = -INFINITY, total = 0;
    pack(q, size, kind);
    int s = 0;
    for (; s + ROWS <= seen; s += ROWS) dot(keys + s * row, row, q, size, size, scores + s, kind, ROWS, 1);
    for (; s < seen; s++) dot(keys + s * row, row, q, size, size, scores + s, kind, 1, 1);
    for (s = 0; s < seen; s++) highest = scores[s] > highest ? scores[s] : highest;
#pragma omp simd reduction(+ : total)
    for (s = 0; s < seen; s++) {
        scores[s] = exponential((scores[s] - highest) * scale);
        total += scores[s];
    }
    int c = weighted_sum(values, row, scores, seen, size, q, 0, kind, 4);
    for (; c < size; c++) {
        q[c] = 0;
        for (s = 0; s < seen; s++) q[c] += scores[s] * value_at(values + s * row, c, kind);
    }
    for (c = 0; c < size; c++) q[c] /= total;
}

/* A key head of a row: where its queries, key and place in the cache are. */
typedef struct {
    float *q, *key, *mixed;
    size_t start; /* of this head in the cache, in numbers */
    int position;
} Head;

static Head head_of(const Model *m, int number, const Cache *cache, const Scratch *scratch,
                    const Batch *batch, int b, int n, int k) {
    size_t D = m->head_size, G = m->heads / m->kv_heads;
    float *qkv = scratch->qkv + n * (m->heads + 2 * m->kv_heads) * D;
    Head head = {qkv + k * G * D, qkv + (m->heads + k) * D, scratch->mixed + (n * m->heads + k * G) * D,
                 number * cache->layer_stride + batch->slots[b] * cache->text_stride + k * cache->capacity * D,
                 batch->starts[b] + n - batch->firsts[b]};
    return head;
}

/* Normalise and rotate queries and key, append key and value to the cache. */
static void append_kv(const Model *m, const Layer *layer, const Cache *cache, Head head) {
    int D = m->head_size, G = m->heads / m->kv_heads;
    for (int g = 0; g <= G; g++) {
        float *x = g < G ? head.q + g * D : head.key;
        Norm gain = {g < G ? layer->q_gain : layer->k_gain, NULL};
        if (m->qk_norm) normalise(x, x, D, gain, m->eps, 0);
        if (m->cos) rotate(x, m->cos + (size_t)head.position * D, m->sin + (size_t)head.position * D, D);
    }
    size_t newest = head.start + (size_t)head.position * D;
    store(cache->keys, newest, head.key, D, cache->kind);
    store(cache->values, newest, head.key + (size_t)m->kv_heads * D, D, cache->kind);
}

/* Attention of a head's queries over all cached positions, into head.mixed. */
static void attend_cached(const Model *m, const Cache *cache, Head head, float *scores) {
    Kind kind = cache->kind;
    int D = m->head_size, G = m->heads / m->kv_heads, seen = head.position + 1;
    const char *keys = (const char *)cache->keys + head.start * bytes(kind);
    const char *values = (const char *)cache->values + head.start * bytes(kind);
    for (int g = 0; g < G; g++) {
        if (kind == FLOAT) attend(head.q + g * D, keys, values, seen, D, scores, FLOAT);
        else attend(head.q + g * D, keys, values, seen, D, scores, BFLOAT);
    }
    memcpy(head.mixed, head.q, (size_t)G * D * sizeof(float));
}

/* Of few rows, the thread that has a key head of a text takes its rows one after the other. Of many
   rows all keys and values are appended first and the queries shared then, so that a single prompt
   keeps every thread busy. */
static void attention(const Model *m, int number, const Cache *cache, const Scratch *scratch,
                      const Batch *batch) {
    int K = m->kv_heads, thread = omp_get_thread_num(), threads = omp_get_num_threads();
    float *scores = scratch->scores + (size_t)thread * cache->capacity;
    for (int phase = 0; phase <= scratch->shared; phase++) {
        for (int b = 0, unit = 0; b < batch->texts; b++)
            for (int n = batch->firsts[b]; n < batch->firsts[b + 1]; n++)
                for (int k = 0; k < K; k++) {
                    if ((scratch->shared ? unit++ : b * K + k) % threads != thread) continue;
                    Head head = head_of(m, number, cache, scratch, batch, b, n, k);
                    if (phase == 0) append_kv(m, m->layers + number, cache, head);
                    if (phase == scratch->shared) attend_cached(m, cache, head, scores);
                }
#pragma omp barrier
    }
}
