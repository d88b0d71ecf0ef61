// The draw of the next token without sorting; equals engine.sampling.distribution and draw.
#include "common.h"

// What is kept of the row by top-k: the logits above the value returned. Bisected: some 10 counts find a gap between the
// k-th and the next logit, unless they tie, which keeps both.
static float below_top_k(const float *logits, int64_t V, int64_t top_k, float low, float high) {
  if (top_k >= V || !isfinite(low) || !isfinite(high)) return -INFINITY;
  float floor = nextafterf(low, -INFINITY);
  for (;;) {
    float middle = floor + (high - floor) / 2;
    if (middle <= floor || middle >= high) return floor;
    int64_t larger = 0;
#pragma omp simd reduction(+ : larger)
    for (int64_t v = 0; v < V; v++) larger += logits[v] > middle;
    if (larger >= top_k) floor = middle;
    if (larger < top_k) high = middle;
    if (larger == top_k) return floor;
  }
}

#define NUCLEUS 0.9

// How many of the largest exp(logits - high), whose sum is `total`, reach NUCLEUS of it together. Of those below a
// tenth of the mean all together are less than a tenth, so they are left out (`kept` has room for V); the rest is
// bisected, as for top-k. Of equal values at the border only as many count as are needed.
static float nucleus_size(const float *logits, int64_t V, float high, double total, float *restrict kept) {
  if (!isfinite(total)) return NAN;
  float bound = (float)((1 - NUCLEUS) * total / V), p[1024];
  int64_t num_kept = 0;
  for (int64_t v0 = 0; v0 < V; v0 += 1024) {
    int64_t n = min_i64(1024, V - v0);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) p[i] = exp_f32(logits[v0 + i] - high);
    for (int64_t i = 0; i < n; i++) {  // every value is written, and overwritten unless it is kept
      kept[num_kept] = p[i];
      num_kept += p[i] >= bound;
    }
  }
  double wanted = NUCLEUS * total, sum_above = 0;
  float low = 0, up = 1;  // those above `low` reach it, those above `up` do not
  int64_t above_low = num_kept, above_up = 0;
  while (above_low - above_up > 1) {
    float middle = low + (up - low) / 2;
    if (middle <= low || middle >= up) break;
    double sum = 0;
    int64_t larger = 0;
    for (int64_t i0 = 0; i0 < num_kept; i0 += 1024) {
      int64_t stop = min_i64(i0 + 1024, num_kept);
      float s = 0;
#pragma omp simd reduction(+ : s, larger)
      for (int64_t i = i0; i < stop; i++) s += kept[i] > middle ? kept[i] : 0.0f, larger += kept[i] > middle;
      sum += s;
    }
    if (sum >= wanted) low = middle, above_low = larger;
    if (sum < wanted) up = middle, above_up = larger, sum_above = sum;
  }
  return above_low - above_up > 1 ? above_up + (float)ceil((wanted - sum_above) / up) : (float)above_low;
}

// One row: the token is the argmax of q / noise. p is the softmax of the logits; q keeps those above `floor` of at least
// `min_p` of the best, at a temperature. Where q is p, both have the same sums, so that their difference is 0.
static int32_t draw_row(const float *logits, const float *noise, int64_t V, float temperature, float floor, float min_p,
                        float high, float *restrict race, Measures *measures) {
  int is_greedy = temperature == 0;
  float inverse = is_greedy ? 1.0f : 1.0f / temperature, best = -1;
  double sum_p = 0, weighted_p = 0, sum_q = 0, weighted_q = 0;
  for (int64_t v0 = 0; v0 < V; v0 += 1024) {  // sums of float32 within a block, of float64 between blocks
    float s = 0, x = 0, t = 0, y = 0;
    int64_t stop = min_i64(v0 + 1024, V);
#pragma omp simd reduction(+ : s, x, t, y) reduction(max : best)
    for (int64_t v = v0; v < stop; v++) {
      float l = logits[v] - high, p = exp_f32(l), q = exp_f32(l * inverse);
      float e = noise[v] < 1e-30f ? 1e-30f : noise[v];
      q = logits[v] > floor ? q : 0.0f;
      q = q >= min_p ? q : 0.0f;
      s += p, x += p * l, t += q, y += q * l;
      float r = is_greedy ? p : q / e;
      race[v] = r;
      best = r > best ? r : best;
    }
    sum_p += s, weighted_p += x, sum_q += t, weighted_q += y;
  }
  int32_t token = 0;
  while (token < V - 1 && !(race[token] == best)) token++;
  double shift = log(sum_p) - log(sum_q), l = logits[token] - high;  // -log p(token) is log sum_p - l
  measures->nll = (float)(log(sum_p) - l);
  measures->entropy = (float)(log(sum_p) - weighted_p / sum_p);
  measures->sharpening = is_greedy ? measures->nll : (float)((inverse - 1) * weighted_q / sum_q + shift);
  measures->gap = is_greedy ? measures->nll : (float)((inverse - 1) * l + shift);
  measures->top = (float)(1 / sum_p);
  measures->nucleus = nucleus_size(logits, V, high, sum_p, race);
  return token;
}

// One token per row of logits [R, V], and the measures of its draw. temperature 0 takes the likeliest token.
// `race`: room for V values per thread.
void draw_tokens(const float *logits, const float *noise, int32_t rows, int64_t V, float temperature, int64_t top_k,
                 float min_p, int32_t *tokens, Measures *measures, float *race, int32_t threads) {
#pragma omp parallel for num_threads(threads < rows ? threads : rows) schedule(static)
  for (int r = 0; r < rows; r++) {
    const float *row = logits + r * V;
    float high = -INFINITY, low = INFINITY;
#pragma omp simd reduction(max : high) reduction(min : low)
    for (int64_t v = 0; v < V; v++) high = row[v] > high ? row[v] : high, low = row[v] < low ? row[v] : low;
    float floor = below_top_k(row, V, temperature == 0 ? V : top_k, low, high);
    tokens[r] = draw_row(row, noise + r * V, V, temperature, floor, min_p, high, race + omp_get_thread_num() * V,
                         measures + r);
  }
}
