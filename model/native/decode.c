/* A few texts continue in a transformer: one new token each, or a short prompt, all layers in one
   call.

   At one token per text every weight is read once and used once per text, so a step takes as long
   as memory needs to deliver the weights, if nothing else is in the way. Activations are float,
   cached keys and values float or bfloat16, weights float, bfloat16 or those of
   `model/quantization/layers.py`: int8 with a scale for each output, int4 with a scale and a zero
   for each group of inputs. `decoder.py` has this file compiled and describes the model in the
   structures of `transformer.h`.

   Every output is summed by one thread in one order: neither the number of threads nor what else
   is read in the same call changes a bit.
   Letters: B texts, N rows (new tokens of all texts), C channels, H query heads, K key and value
   heads, D channels per head. */

#include "attention.h"

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

static void activated_row(const Model *m, const float *x, float *y) {
    switch (m->activation) {
    case SWIGLU: activate(x, y, m->mlp_size, SWIGLU); break;
    case GEGLU: activate(x, y, m->mlp_size, GEGLU); break;
    case REGLU: activate(x, y, m->mlp_size, REGLU); break;
    case GELU: activate(x, y, m->mlp_size, GELU); break;
    default: activate(x, y, m->mlp_size, RELU2);
    }
}

static void embed(const Model *m, float *x, int32_t id, int32_t position) {
    int C = m->embedding.inputs;
    size_t row = (size_t)id * C;
    float scale = m->embedding.scale ? m->embedding.scale[id] : 1;
    for (int c = 0; c < C; c++) x[c] = value_at(m->embedding.weight, row + c, m->embedding.kind) * scale;
    if (m->positions.weight)
        for (int c = 0; c < C; c++)
            x[c] += value_at(m->positions.weight, (size_t)position * C + c, m->positions.kind);
    if (m->embedding_normed) normalise(x, x, C, m->embedding_norm, m->eps, m->layer_norm);
}

static Inputs inputs_of(const Scratch *scratch, int rows, int most) {
    int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    Inputs own = {scratch->inputs + (size_t)thread * most * scratch->width, rows, 0, rows, 0};
    Inputs shared = {scratch->inputs, rows, rows * thread / threads, rows * (thread + 1) / threads, 1};
    return scratch->shared ? shared : own;
}

/* The residual stream, normalised into the inputs. */
static void normalised(const Model *m, const float *x, Inputs in, Norm norm) {
    size_t C = m->embedding.inputs;
    for (int n = in.first; n < in.last; n++)
        normalise(x + n * C, in.x + n * C, C, norm, m->eps, m->layer_norm);
}

static void one_layer(const Model *m, int number, const Cache *cache, const Scratch *scratch,
                      const Batch *batch, Inputs in) {
    const Layer *layer = m->layers + number;
    size_t mixed = layer->out.inputs, up = layer->up.outputs, F = m->mlp_size;
    normalised(m, scratch->x, in, layer->attention_norm);
    product(&layer->qkv, in, scratch->qkv, layer->qkv.outputs, 0);
    attention(m, number, cache, scratch, batch);
    memcpy(in.x + in.first * mixed, scratch->mixed + in.first * mixed, (in.last - in.first) * mixed * sizeof(float));
    product(&layer->out, in, scratch->x, layer->out.outputs, 1);
    normalised(m, scratch->x, in, layer->mlp_norm);
    product(&layer->up, in, scratch->mixed, up, 0);
    for (int n = in.first; n < in.last; n++) activated_row(m, scratch->mixed + n * up, in.x + n * F);
    product(&layer->down, in, scratch->x, layer->down.outputs, 1);
}

/* logits (B, V) after the last new token of each text, or (N, V) after every one. */
void decode_step(const Model *m, const Cache *cache, const Scratch *scratch, const Batch *batch,
                 float *logits, int32_t every, int32_t threads) {
    int rows = batch->firsts[batch->texts];
    size_t C = m->embedding.inputs;
    for (int b = 0; b < batch->texts; b++)
        for (int n = batch->firsts[b]; n < batch->firsts[b + 1]; n++)
            embed(m, scratch->x + n * C, batch->ids[n], batch->starts[b] + n - batch->firsts[b]);
#pragma omp parallel num_threads(threads)
    {
        Inputs in = inputs_of(scratch, rows, rows), last = inputs_of(scratch, every ? rows : batch->texts, rows);
        for (int number = 0; number < m->count; number++)
            one_layer(m, number, cache, scratch, batch, in);
        for (int i = last.first; i < last.last; i++) {
            float *x = last.x + i * C, *row = scratch->x + (every ? i : batch->firsts[i + 1] - 1) * C;
            normalise(row, x, C, m->norm, m->eps, m->layer_norm);
            for (size_t c = 0; c < C; c++) x[c] *= m->logit_scale;
        }
        product(&m->head, last, logits, m->head.outputs, 0);
    }
}

/* Of each row of scores (rows, count), `stride` apart: where its largest is, and the logarithm of
   the sum of all exponentials, which a NaN makes NaN. */
void argmax_logsumexp(const float *scores, int64_t stride, int32_t rows, int32_t count,
                      int64_t *argmax, float *logsumexp) {
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
        argmax[n] = place, logsumexp[n] = best + logf(total);
    }
}
