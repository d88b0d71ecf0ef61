// AdamW in one pass over the weights. Equal to torch.optim.AdamW (Loshchilov & Hutter 2019).
#include "common.h"

enum { BLOCK = 16384 };

// Element i of a gradient in float32 or bfloat16.
static inline float element(const void *x, int32_t is_bf16, int64_t i) {
  if (!is_bf16) return ((const float *)x)[i];
  union { uint32_t u; float f; } bits = {(uint32_t)((const uint16_t *)x)[i] << 16};
  return bits.f;
}

// `total` += SUM_OF_BLOCK(begin, end) over blocks, in threads, added in one order whatever the number of threads.
#define SUM_OVER_BLOCKS(total, n, threads, SUM_OF_BLOCK)                            \
  int64_t num_blocks = ((n) + BLOCK - 1) / BLOCK;                                   \
  Sums *parts = malloc(num_blocks * sizeof(Sums));                                  \
  _Pragma("omp parallel for num_threads(threads) schedule(static) if (n > BLOCK)")  \
  for (int64_t b = 0; b < num_blocks; b++) {                                        \
    Sums sum = {0, 0};                                                              \
    for (int64_t begin = b * BLOCK; begin < min_i64((b + 1) * BLOCK, n); begin += 1024) { \
      int64_t end = min_i64(begin + 1024, n);                                       \
      Sums s = SUM_OF_BLOCK;                                                        \
      sum.first += s.first, sum.second += s.second;                                 \
    }                                                                               \
    parts[b] = sum;                                                                 \
  }                                                                                 \
  for (int64_t b = 0; b < num_blocks; b++) total.first += parts[b].first, total.second += parts[b].second; \
  free(parts);

typedef struct {
  double first, second;
} Sums;

typedef struct {
  float scale, step_size, root, keep, b1, b2, c1, c2, epsilon;
} Step;

static inline __attribute__((always_inline)) Sums squares(const void *x, int is_bf16, int64_t begin, int64_t end) {
  float s = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t i = begin; i < end; i++) s += element(x, is_bf16, i) * element(x, is_bf16, i);
  return (Sums){s, 0};
}

// Sums of the squares of the changes and of the weights before them.
static inline __attribute__((always_inline)) Sums step_block(const Step *step, float *restrict p, const void *g, int is_bf16,
                                                             float *restrict m, float *restrict v, int64_t begin,
                                                             int64_t end) {
  Step k = *step;
  float changes = 0, weights = 0;
#pragma omp simd reduction(+ : changes, weights)
  for (int64_t i = begin; i < end; i++) {
    float gradient = element(g, is_bf16, i) * k.scale, old = p[i];
    m[i] = k.b1 * m[i] + k.c1 * gradient;
    v[i] = k.b2 * v[i] + k.c2 * gradient * gradient;
    p[i] = k.keep * old - k.step_size * m[i] / (sqrtf(v[i]) / k.root + k.epsilon);
    changes += (p[i] - old) * (p[i] - old);
    weights += old * old;
  }
  return (Sums){changes, weights};
}

// Sum of squares of x[0..n).
double sum_of_squares(const void *x, int32_t is_bf16, int64_t n, int32_t threads) {
  Sums total = {0, 0};
  SUM_OVER_BLOCKS(total, n, threads, is_bf16 ? squares(x, 1, begin, end) : squares(x, 0, begin, end))
  return total.first;
}

// One step on n weights p with gradient g * scale and moments m, v. Adds the sum of squares of the weights' change to
// sums[0], and that of the weights before it to sums[1].
void adamw(float *p, const void *g, int32_t is_bf16, float *m, float *v, int64_t n, float scale, double lr,
           double beta_1, double beta_2, double eps, double weight_decay, double step, double *sums, int32_t threads) {
  Step k = {scale, (float)(lr / (1 - pow(beta_1, step))), (float)sqrt(1 - pow(beta_2, step)),
            (float)(1 - lr * weight_decay), (float)beta_1, (float)beta_2, (float)(1 - beta_1), (float)(1 - beta_2),
            (float)eps};
  Sums total = {sums[0], sums[1]};
  SUM_OVER_BLOCKS(total, n, threads,
                  is_bf16 ? step_block(&k, p, g, 1, m, v, begin, end) : step_block(&k, p, g, 0, m, v, begin, end))
  sums[0] = total.first, sums[1] = total.second;
}
