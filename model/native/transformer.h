/* What `decoder.py` describes a model with, field by field. */

#pragma once
#include "products.h"

typedef enum { SWIGLU, GEGLU, REGLU, GELU, RELU2 } Activation;

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

/* Memory for N rows: x (N, C), mixed (N, max(H * D, 2 * mlp)), qkv (N, (H + 2K) * D), scores
   (threads, capacity), inputs (N, widest input of a matrix), of each thread unless they are
   shared. */
typedef struct {
    float *x, *mixed, *qkv, *scores, *inputs;
    int32_t width, shared;
} Scratch;
