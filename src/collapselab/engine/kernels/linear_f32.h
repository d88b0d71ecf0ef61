// Matrix products with float32 weights for few rows: limited by reading the weights, so each is read once.
// The order of a row's sums depends on neither the other rows nor the number of threads.
#pragma once
#include "common.h"

// [K, N] weights: y[n] += x[k] W[k, n], eight k at a time, while the columns are split among the threads.
static void linear_in_out(const Linear *l, const float *x, int64_t x_stride, float *y, int64_t y_stride, int rows) {
  int64_t begin, end, N = l->num_out;
  my_share(N, 16, &begin, &end);
  for (int64_t k = 0; k < l->num_in; k += 8) {
    const float *W = l->weight + k * N;
    if (k + 8 > l->num_in) {
      for (; k < l->num_in; k++, W += N)
        for (int r = 0; r < rows; r++) {
          float a = x[r * x_stride + k], *restrict out = y + r * y_stride;
#pragma omp simd
          for (int64_t n = begin; n < end; n++) out[n] += a * W[n];
        }
      return;
    }
    for (int64_t tile = begin; tile < end; tile += 1024) {  // eight rows of a tile stay in the first-level cache
      int64_t stop = min_i64(tile + 1024, end);
      for (int r = 0; r < rows; r++) {
        const float *a = x + r * x_stride + k;
        float a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5], a6 = a[6], a7 = a[7];
        float *restrict out = y + r * y_stride;
#pragma omp simd
        for (int64_t n = tile; n < stop; n++)
          out[n] += ((a0 * W[n] + a1 * W[n + N]) + (a2 * W[n + 2 * N] + a3 * W[n + 3 * N])) +
                    ((a4 * W[n + 4 * N] + a5 * W[n + 5 * N]) + (a6 * W[n + 6 * N] + a7 * W[n + 7 * N]));
      }
    }
  }
}

// [N, K] weights: dot products, four outputs at a time, while the outputs are split among the threads.
static void linear_out_in(const Linear *l, const float *x, int64_t x_stride, float *y, int64_t y_stride, int rows) {
  int64_t begin, end, K = l->num_in;
  my_share(l->num_out, 4, &begin, &end);
  int64_t n = begin;
  for (; n + 4 <= end; n += 4) {
    const float *w0 = l->weight + n * K, *w1 = w0 + K, *w2 = w1 + K, *w3 = w2 + K;
    for (int r = 0; r < rows; r++) {
      const float *a = x + r * x_stride;
      float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (int64_t k = 0; k < K; k++) {
        s0 += a[k] * w0[k];
        s1 += a[k] * w1[k];
        s2 += a[k] * w2[k];
        s3 += a[k] * w3[k];
      }
      float *out = y + r * y_stride + n;
      out[0] += s0, out[1] += s1, out[2] += s2, out[3] += s3;
    }
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
