// Matrix products with float32 weights for few rows: limited by reading the weights, so each is read once for two rows.
// The order of a row's sums depends on neither the other rows nor the number of threads.
#pragma once
#include "common.h"

#define INLINE static inline __attribute__((always_inline))

// Adds the terms of eight inputs to columns of one or two (`num`) rows; W[0] is the first input's row of weights.
INLINE void add_eight(int num, const float *x, int64_t x_stride, const float *W, int64_t N, float *y, int64_t y_stride,
                      int64_t begin, int64_t end) {
#define EIGHT(a) \
  ((a##0 * W[n] + a##1 * W[n + N]) + (a##2 * W[n + 2 * N] + a##3 * W[n + 3 * N])) + \
      ((a##4 * W[n + 4 * N] + a##5 * W[n + 5 * N]) + (a##6 * W[n + 6 * N] + a##7 * W[n + 7 * N]))
  const float *a = x, *b = x + (num - 1) * x_stride;
  float a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5], a6 = a[6], a7 = a[7];
  float b0 = b[0], b1 = b[1], b2 = b[2], b3 = b[3], b4 = b[4], b5 = b[5], b6 = b[6], b7 = b[7];
  float *restrict first = y, *restrict second = y + (num - 1) * y_stride;
#pragma omp simd
  for (int64_t n = begin; n < end; n++) {
    first[n] += EIGHT(a);
    if (num == 2) second[n] += EIGHT(b);
  }
#undef EIGHT
}

// [K, N] weights: y[n] += x[k] W[k, n], eight k at a time, while the columns are split among the threads.
static void linear_in_out(const Linear *l, const float *x, int64_t x_stride, float *y, int64_t y_stride, int rows) {
  int64_t begin, end, N = l->num_out, K = l->num_in;
  my_share(N, 16, &begin, &end);
  // Of several rows, the columns that are worked on stay in the first-level cache.
  int64_t width = rows > 1 ? 256 : end - begin;
  for (int64_t stop; begin < end; begin = stop) {
    stop = min_i64(begin + width, end);
    for (int64_t k = 0; k + 8 <= K; k += 8) {
      const float *W = l->weight + k * N, *a = x + k;
      float *out = y;
      int r = 0;
      for (int i = 8; rows > 1 && i < 16; i++)  // a jump of N is too far for the processor to foresee
        for (int64_t n = begin; n < stop; n += 16) __builtin_prefetch(W + i * N + n);
      for (; r + 2 <= rows; r += 2, a += 2 * x_stride, out += 2 * y_stride)
        add_eight(2, a, x_stride, W, N, out, y_stride, begin, stop);
      if (r < rows) add_eight(1, a, x_stride, W, N, out, y_stride, begin, stop);
    }
    for (int64_t k = K / 8 * 8; k < K; k++)
      for (int r = 0; r < rows; r++) {
        const float a = x[r * x_stride + k], *W = l->weight + k * N;
        float *restrict out = y + r * y_stride;
#pragma omp simd
        for (int64_t n = begin; n < stop; n++) out[n] += a * W[n];
      }
  }
}

// Adds the dot products of one or two (`num`) rows with four rows of weights.
INLINE void dot_four(int num, const float *x, int64_t x_stride, const float *w0, int64_t K, float *y,
                     int64_t y_stride) {
  const float *w1 = w0 + K, *w2 = w1 + K, *w3 = w2 + K, *a = x, *b = x + (num - 1) * x_stride;
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3, t0, t1, t2, t3)
  for (int64_t k = 0; k < K; k++) {
    s0 += a[k] * w0[k];
    s1 += a[k] * w1[k];
    s2 += a[k] * w2[k];
    s3 += a[k] * w3[k];
    if (num == 2) {
      t0 += b[k] * w0[k];
      t1 += b[k] * w1[k];
      t2 += b[k] * w2[k];
      t3 += b[k] * w3[k];
    }
  }
  y[0] += s0, y[1] += s1, y[2] += s2, y[3] += s3;
  if (num == 2) {
    y += y_stride;
    y[0] += t0, y[1] += t1, y[2] += t2, y[3] += t3;
  }
}

// [N, K] weights: dot products, four outputs at a time, while the outputs are split among the threads.
static void linear_out_in(const Linear *l, const float *x, int64_t x_stride, float *y, int64_t y_stride, int rows) {
  int64_t begin, end, K = l->num_in;
  my_share(l->num_out, 4, &begin, &end);
  int64_t n = begin;
  for (; n + 4 <= end; n += 4) {
    const float *w = l->weight + n * K, *a = x;
    float *out = y + n;
    int r = 0;
    for (; r + 2 <= rows; r += 2, a += 2 * x_stride, out += 2 * y_stride) dot_four(2, a, x_stride, w, K, out, y_stride);
    if (r < rows) dot_four(1, a, x_stride, w, K, out, y_stride);
  }
  for (; n < end; n++)
    for (int r = 0; r < rows; r++) {
      const float *a = x + r * x_stride, *w = l->weight + n * K;
      float s = 0;
#pragma omp simd reduction(+ : s)
      for (int64_t k = 0; k < K; k++) s += a[k] * w[k];
      y[r * y_stride + n] += s;
    }
}
