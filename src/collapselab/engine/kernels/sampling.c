// The draw of the next token without sorting; equals engine.sampling.distribution and draw.
#include "common.h"

// One row: argmax of exp((logit - largest) / temperature) / noise among the tokens that the rule keeps. Only the winner
// is checked against the rule: with top-k, fewer than k logits may be larger. A winner that is not kept excludes
// all tokens up to its logit, and the race is repeated. Few races are needed, since the kept tokens have most of the mass.
static int32_t draw_row(const float *logits, const float *noise, int64_t V, float temperature, int64_t top_k, float min_p,
                        float high, float *restrict race) {
  float inverse = 1.0f / temperature, floor = -INFINITY;
#pragma omp simd
  for (int64_t v = 0; v < V; v++) {
    float e = noise[v] < 1e-30f ? 1e-30f : noise[v], p = exp_f32((logits[v] - high) * inverse);
    race[v] = p < min_p ? 0 : p / e;
  }
  for (;;) {
    float best = -1;
#pragma omp simd reduction(max : best)
    for (int64_t v = 0; v < V; v++) {
      float x = logits[v] > floor ? race[v] : -1;
      best = x > best ? x : best;
    }
    int64_t winner = 0, larger = 0;
    while (winner < V - 1 && !(race[winner] == best && logits[winner] > floor)) winner++;
    if (top_k >= V) return (int32_t)winner;
    float logit = logits[winner];
#pragma omp simd reduction(+ : larger)
    for (int64_t v = 0; v < V; v++) larger += logits[v] > logit;
    if (larger < top_k) return (int32_t)winner;
    floor = logit;
  }
}

// tokens[r], nll[r] = -log p(token) and entropy[r] of p, in nats at temperature 1 and untruncated; p has logits [R, V].
// temperature 0 takes the likeliest token. `race`: room for V values per thread.
void draw_tokens(const float *logits, const float *noise, int32_t rows, int64_t V, float temperature, int64_t top_k,
                 float min_p, int32_t *tokens, float *nll, float *entropy, float *race, int32_t threads) {
#pragma omp parallel for num_threads(threads < rows ? threads : rows) schedule(static)
  for (int r = 0; r < rows; r++) {
    const float *row = logits + r * V;
    float high = -INFINITY;
#pragma omp simd reduction(max : high)
    for (int64_t v = 0; v < V; v++) high = row[v] > high ? row[v] : high;
    float *mine = race + omp_get_thread_num() * V;
    if (temperature == 0) {
      tokens[r] = 0;
      while (tokens[r] < V - 1 && !(row[tokens[r]] == high)) tokens[r]++;
    } else
      tokens[r] = draw_row(row, noise + r * V, V, temperature, top_k, min_p, high, mine);
    double sum = 0, weighted = 0;
    for (int64_t v0 = 0; v0 < V; v0 += 1024) {  // sums of float32 within a block, of float64 between blocks
      float s = 0, x = 0;
      int64_t stop = min_i64(v0 + 1024, V);
#pragma omp simd reduction(+ : s, x)
      for (int64_t v = v0; v < stop; v++) {
        float p = exp_f32(row[v] - high);
        s += p;
        x += p * (row[v] - high);
      }
      sum += s, weighted += x;
    }
    nll[r] = (float)(log(sum) + high - row[tokens[r]]);
    entropy[r] = (float)(log(sum) - weighted / sum);
  }
}
