// Shared by all kernels: the model as Python describes it, and vectorised elementary functions.
// Shape letters: R rows (tokens), K inputs, N outputs, T positions of a sequence, D head dimension, V vocabulary.
#pragma once
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));

// y = x W + b. `packed` is the bfloat16 copy in the tile layout of packed.h. If it is NULL, `weight` is used:
// the memory of the `transformers` module itself, [K, N] if `is_in_out` (GPT-2's Conv1D), else [N, K].
typedef struct {
  const float *weight, *bias;
  const uint16_t *packed;
  int64_t num_in, num_out;
  int32_t is_in_out;
} Linear;

typedef struct {
  const float *weight, *bias;  // without bias: root-mean-square norm
} Norm;

typedef struct {
  Norm norm_1, norm_2;
  Linear qkv[3], out, up[2], down;  // qkv in one (GPT-2) or three; up: one with GELU, or gate and up with SiLU
} Layer;

typedef struct {
  int64_t num_layers, width, num_heads, num_kv_heads, head_dim, inner, vocab, num_qkv, num_up;
  int64_t num_embeddings, num_positions;  // rows of `embedding`, and of `positions` or `cosines`
  float eps;
  const float *embedding, *positions;  // positions: learned ones (GPT-2), or NULL
  const float *cosines, *sines;        // rotary ones (Llama) [T, D], or NULL
  const Layer *layers;
  Norm final_norm;
  Linear head;
} Model;

// keys [layer, sequence, kv head, D, T]: transposed, so that scores are sums of contiguous rows;
// values [layer, sequence, kv head, T, D]. T is `length`, a multiple of 16; unwritten entries are 0.
typedef struct {
  float *keys, *values;
  int64_t num_sequences, length;
} Cache;

// How a token was drawn from q, which the rule makes of the model's p. In nats:
typedef struct {
  float nll, entropy, sharpening, gap;  // -log p(token); of p; KL(q || p); log q(token) - log p(token)
  float top, nucleus;                   // the largest p; how many of the largest reach NUCLEUS together
} Measures;

int32_t forward(const Model *m, const Cache *c, int32_t rows, const int32_t *tokens, const int32_t *sequences,
                const int32_t *positions, float *hidden, char *memory, int32_t threads);
void head_logits(const Model *m, const float *hidden, int32_t rows, float *logits, char *memory, int32_t threads);
void draw_tokens(const float *logits, const float *noise, int32_t rows, int64_t V, float temperature, int64_t top_k,
                 float min_p, int32_t *tokens, Measures *measures, float *race, int32_t threads);

// exp within 2 units in the last place, without a branch, so that loops over it vectorise (Cephes' polynomial).
// NaN stays NaN: the comparisons are false for it.
static inline float exp_f32(float x) {
  x = x < -87.3f ? -87.3f : x;
  x = x > 88.3f ? 88.3f : x;
  float n = rintf(x * 1.44269504088896341f);
  float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  union { int32_t i; float f; } power = {((int32_t)n + 127) << 23};
  return p * power.f;
}

static inline float silu(float x) { return x / (1.0f + exp_f32(-x)); }

// GELU by tanh, which is x sigmoid(2 u).
static inline float gelu(float x) {
  float u = 0.79788456080286536f * (x + 0.044715f * x * x * x);
  return x / (1.0f + exp_f32(-2.0f * u));
}

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

// The share [*begin, *end) of thread `omp_get_thread_num()` in `total` items, in whole multiples of `grain`.
static inline void my_share(int64_t total, int64_t grain, int64_t *begin, int64_t *end) {
  int64_t grains = (total + grain - 1) / grain, threads = omp_get_num_threads(), t = omp_get_thread_num();
  *begin = min_i64(grains * t / threads * grain, total);
  *end = min_i64(grains * (t + 1) / threads * grain, total);
}
