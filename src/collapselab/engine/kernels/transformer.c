// Decoder-only transformers of the GPT-2 and Llama families: rows of tokens in, hidden states out.
#include "linear_f32.h"
#include "packed.h"

static void norm(const Norm *n, const float *restrict x, float *restrict y, int64_t width, float eps) {
  float mean = 0, square = 0;
  if (n->bias) {
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < width; i++) mean += x[i];
    mean /= width;
  }
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < width; i++) square += (x[i] - mean) * (x[i] - mean);
  float scale = 1.0f / sqrtf(square / width + eps);
  if (n->bias)
#pragma omp simd
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * scale * n->weight[i] + n->bias[i];
  else
#pragma omp simd
    for (int64_t i = 0; i < width; i++) y[i] = x[i] * scale * n->weight[i];
}

// The outputs of a product that this thread computes.
static void output_share(const Linear *l, int64_t *begin, int64_t *end) {
  my_share(l->packed ? padded(l->num_out, 16) : l->num_out, l->packed ? 64 : l->is_in_out ? 16 : 4, begin, end);
  *end = min_i64(*end, l->num_out);
}

// y = (y if `add`) + x W + b, by all threads together, each for its share of the outputs, without a barrier at the end.
// `inputs`: room for x as the tiles read it; `is_ready`: it is filled already, and x is not read.
static void linear(const Linear *l, const float *x, int64_t x_stride, float *y, int64_t y_stride, int rows, int add,
                   Input *inputs, int is_ready) {
  int64_t begin = 0, end = padded(rows, 32), K = l->num_in, is_shared = rows > ROWS;
  if (l->packed) {
    // If there are few rows, each thread converts them itself, which saves a barrier.
    if (is_shared)
      my_share(padded(rows, 32), 1, &begin, &end);
    else
      inputs += omp_get_thread_num() * 32 * padded(K, 32);
    for (int64_t r = begin; !is_ready && r < end; r++) to_inputs(x, x_stride, K, rows, r, 0, K, inputs);
    if (is_shared && !is_ready) {
#pragma omp barrier
    }
    if (add)
      linear_packed(l, inputs, y, y_stride, rows, ADD, NULL);
    else
      linear_packed(l, inputs, y, y_stride, rows, STORE, NULL);
  } else {
    output_share(l, &begin, &end);
    for (int r = 0; r < rows; r++)
      for (int64_t n = begin; n < end; n++)
        y[r * y_stride + n] = (add ? y[r * y_stride + n] : 0) + (l->bias ? l->bias[n] : 0);
    if (l->is_in_out)
      linear_in_out(l, x, x_stride, y, y_stride, rows);
    else
      linear_out_in(l, x, x_stride, y, y_stride, rows);
  }
}

static void rotate(float *restrict x, const float *cosines, const float *sines, int64_t D) {
  int64_t half = D / 2;
  for (int64_t d = 0; d < half; d++) {
    float a = x[d], b = x[d + half];
    x[d] = a * cosines[d] - b * sines[d];
    x[d + half] = b * cosines[d + half] + a * sines[d + half];
  }
}

enum { QUERIES = 8, LANES = 16 };

// out[q][0..16) += sum over n of a[q][n] * b[n][0..16): the products of attention, one load of b for `num` queries.
static inline __attribute__((always_inline)) void accumulate(int num, const float *a, int64_t a_stride, const float *b,
                                                             int64_t b_stride, int64_t count, float *out,
                                                             int64_t out_stride) {
  Lanes sums[QUERIES];
  for (int q = 0; q < num; q++) sums[q] = *(const Lanes *)(out + q * out_stride);
  for (int64_t n = 0; n < count; n++) {
    Lanes row = *(const Lanes *)(b + n * b_stride);
    for (int q = 0; q < num; q++) sums[q] += a[q * a_stride + n] * row;
  }
  for (int q = 0; q < num; q++) *(Lanes *)(out + q * out_stride) = sums[q];
}

// out[q][0..width) = sum over n of a[q][n] * b[n][0..width). A sum does not depend on the other queries.
static void product(int num, const float *a, int64_t a_stride, const float *b, int64_t b_stride, int64_t count,
                    float *out, int64_t out_stride, int64_t width) {
  for (int q = 0; q < num; q++) memset(out + q * out_stride, 0, width * sizeof(float));
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES)
    if (num == QUERIES)
      accumulate(QUERIES, a, a_stride, b + i, b_stride, count, out + i, out_stride);
    else
      for (int q = 0; q < num; q++)
        accumulate(1, a + q * a_stride, a_stride, b + i, b_stride, count, out + q * out_stride + i, out_stride);
  for (int q = 0; q < num; q++)
    for (int64_t n = 0; i < width && n < count; n++)
      for (int64_t k = i; k < width; k++) out[q * out_stride + k] += a[q * a_stride + n] * b[n * b_stride + k];
}

// Turns scores into exp(scale * (score - largest)) and returns their sum; from `count` to `padded_count`, a multiple of
// LANES, they become 0. Whole vectors only: remainders would take longer than everything else.
static float softmax(float *restrict s, int64_t count, int64_t padded_count, float scale) {
  float lanes[LANES], largest = -INFINITY, total = 0;
  for (int64_t i = count; i < padded_count; i++) s[i] = -INFINITY;
  for (int j = 0; j < LANES; j++) lanes[j] = -INFINITY;
  for (int64_t i = 0; i < padded_count; i += LANES)
#pragma omp simd
    for (int j = 0; j < LANES; j++) lanes[j] = s[i + j] > lanes[j] ? s[i + j] : lanes[j];
  for (int j = 0; j < LANES; j++) largest = lanes[j] > largest ? lanes[j] : largest;
  for (int j = 0; j < LANES; j++) lanes[j] = 0;
  for (int64_t i = 0; i < padded(count, LANES); i += LANES)
#pragma omp simd
    for (int j = 0; j < LANES; j++) lanes[j] += s[i + j] = exp_f32((s[i + j] - largest) * scale);
  for (int j = 0; j < LANES; j++) total += lanes[j];
  memset(s + count, 0, (padded_count - count) * sizeof(float));
  return total;
}

// Attention of `num` queries at successive positions, the first of which sees `count` positions. Keys [D, T] and
// values [T, D] are read once for all of them; `scores` has room for QUERIES * T. Scores after a query are 0.
static void attend(const float *queries, int64_t query_stride, int num, const float *keys, const float *values,
                   int64_t T, int64_t D, int64_t count, float *scores, float *out, int64_t out_stride) {
  float scale = 1.0f / sqrtf((float)D), totals[QUERIES];
  int64_t longest = count + num - 1;
  product(num, queries, query_stride, keys, T, D, scores, T, padded(longest, LANES));
  for (int q = 0; q < num; q++) totals[q] = softmax(scores + q * T, count + q, padded(longest, LANES), scale);
  product(num, scores, T, values, D, longest, out, out_stride, D);
  for (int q = 0; q < num; q++)
    for (int64_t i = 0; i < D; i++) out[q * out_stride + i] /= totals[q];
}

typedef struct {
  float *residual, *normed, *qkv, *mixed, *up, *scores;
  Input *inputs, *active;
} Workspace;

// Adds the feed-forward part for normed rows to the residual stream.
static void feed_forward(const Model *m, const Layer *l, const Workspace *w, const float *normed, int rows,
                         int as_inputs) {
  int64_t width = m->width, inner = m->inner, up_width = inner * m->num_up, begin, end;
  int is_gated = m->num_up == 2;
  if (as_inputs) {  // activated as the products are made, so that they are never stored
    if (is_gated) linear(&l->up[0], NULL, 0, w->up, inner, rows, 0, w->inputs, 1);
    if (is_gated)
      linear_packed(&l->up[1], w->inputs, w->up, inner, rows, GATED, w->active);
    else
      linear_packed(&l->up[0], w->inputs, w->up, inner, rows, GELU, w->active);
#pragma omp barrier
    linear(&l->down, NULL, 0, w->residual, width, rows, 1, w->active, 1);
  } else {
    for (int64_t i = 0; i < m->num_up; i++)
      linear(&l->up[i], normed, width, w->up + i * inner, up_width, rows, 0, w->inputs, 0);
    output_share(&l->up[0], &begin, &end);  // a thread activates what it computed itself: no barrier needed
    for (int r = 0; r < rows; r++) {
      float *up = w->up + r * up_width;
      if (is_gated)
#pragma omp simd
        for (int64_t i = begin; i < end; i++) up[i] = silu(up[i]) * up[inner + i];
      else
#pragma omp simd
        for (int64_t i = begin; i < end; i++) up[i] = gelu(up[i]);
    }
#pragma omp barrier
    linear(&l->down, w->up, up_width, w->residual, width, rows, 1, w->inputs, 0);
  }
#pragma omp barrier
}

// Divides `memory` into the buffers of a call; returns the bytes needed.
static int64_t lay_out(const Model *m, int64_t rows, int64_t length, int threads, char *memory, Workspace *w) {
  int64_t heads = m->num_heads + 2 * m->num_kv_heads, at = 0;
  int64_t sizes[] = {rows * m->width, (rows + threads) * m->width, rows * heads * m->head_dim,
                     rows * m->num_heads * m->head_dim, rows * m->inner * m->num_up, threads * QUERIES * length};
  float **buffers[] = {&w->residual, &w->normed, &w->qkv, &w->mixed, &w->up, &w->scores};
  for (int i = 0; i < 6; i++) {
    *buffers[i] = (float *)(memory + at);
    at += padded(sizes[i] * sizeof(float), 64);
  }
  int64_t input_rows = padded(rows, 32) > 32 * threads ? padded(rows, 32) : 32 * threads;
  int64_t widest = padded(m->inner > m->width ? m->inner : m->width, 32);
  w->inputs = (Input *)(memory + at);
  w->active = w->inputs + input_rows * widest;
  return at + 2 * input_rows * widest * sizeof(Input);
}

int64_t workspace_bytes(const Model *m, int64_t rows, int64_t length, int32_t threads) {
  Workspace w;
  return lay_out(m, rows, length, threads, NULL, &w);
}

// Rotates (Llama) and stores the key and value of head h in a row of qkv.
static void store_key_value(const Model *m, const Cache *c, int64_t layer, float *qkv, int64_t h, int64_t s, int64_t t) {
  int64_t D = m->head_dim, T = c->length, at = ((layer * c->num_sequences + s) * m->num_kv_heads + h) * T * D;
  float *k = qkv + (m->num_heads + h) * D, *v = k + m->num_kv_heads * D;
  if (m->cosines) rotate(k, m->cosines + t * D, m->sines + t * D, D);
  for (int64_t d = 0; d < D; d++) c->keys[at + d * T + t] = k[d];
  memcpy(c->values + at + t * D, v, D * sizeof(float));
}

// Attention of head h for rows r0 to r1; rows of one sequence at successive positions are processed together.
static void attend_rows(const Model *m, const Cache *c, const Workspace *w, int64_t layer, int64_t h, int r0, int r1,
                        const int32_t *sequences, const int32_t *positions) {
  int64_t D = m->head_dim, T = c->length, H = m->num_heads, width = (H + 2 * m->num_kv_heads) * D;
  for (int r = r0, next; r < r1; r = next) {
    for (next = r + 1; next < r1 && sequences[next] == sequences[r] && positions[next] == positions[r] + next - r;) next++;
    float *queries = w->qkv + r * width + h * D;
    for (int q = r; m->cosines && q < next; q++)
      rotate(queries + (q - r) * width, m->cosines + positions[q] * D, m->sines + positions[q] * D, D);
    int64_t at = ((layer * c->num_sequences + sequences[r]) * m->num_kv_heads + h / (H / m->num_kv_heads)) * T * D;
    attend(queries, width, next - r, c->keys + at, c->values + at, T, D, positions[r] + 1,
           w->scores + omp_get_thread_num() * QUERIES * T, w->mixed + (r * H + h) * D, H * D);
  }
}

static void attention(const Model *m, const Cache *c, const Workspace *w, int64_t layer, int rows,
                      const int32_t *sequences, const int32_t *positions) {
  int64_t H = m->num_heads, G = H / m->num_kv_heads, width = (H + 2 * m->num_kv_heads) * m->head_dim;
  if (rows == 1) {  // a thread stores the keys it attends to: one barrier less
#pragma omp for schedule(static)
    for (int64_t h = 0; h < m->num_kv_heads; h++) {
      store_key_value(m, c, layer, w->qkv, h, sequences[0], positions[0]);
      for (int64_t g = h * G; g < (h + 1) * G; g++) attend_rows(m, c, w, layer, g, 0, 1, sequences, positions);
    }
    return;
  }
#pragma omp for schedule(static)
  for (int r = 0; r < rows; r++)
    for (int64_t h = 0; h < m->num_kv_heads; h++)
      store_key_value(m, c, layer, w->qkv + r * width, h, sequences[r], positions[r]);
#pragma omp for collapse(2) schedule(dynamic)
  for (int64_t h = 0; h < H; h++)
    for (int r = 0; r < rows; r += QUERIES)
      attend_rows(m, c, w, layer, h, r, (int)min_i64(r + QUERIES, rows), sequences, positions);
}

// Norms the rows of the residual stream into `to`, and, if there are many, into the tiles of the following products.
static void norm_rows(const Model *m, const Norm *n, const Workspace *w, int rows, float *to, int as_inputs) {
#pragma omp for schedule(static)
  for (int r = 0; r < (as_inputs ? (int)padded(rows, 32) : rows); r++) {
    float *row = to + (as_inputs ? omp_get_thread_num() : r) * m->width;
    if (r < rows) norm(n, w->residual + r * m->width, row, m->width, m->eps);
    if (as_inputs) to_inputs(row - r * m->width, m->width, m->width, rows, r, 0, m->width, w->inputs);
  }
}

// Whether all of `count` numbers are rows of a table of `limit` rows.
static int are_rows(const int32_t *numbers, int32_t count, int64_t limit) {
  for (int32_t i = 0; i < count; i++)
    if (numbers[i] < 0 || numbers[i] >= limit) return 0;
  return 1;
}

// Reads `rows` tokens, row r at position[r] of sequence[r]; the positions before it are in the cache or among
// the rows. Writes their keys and values to the cache and the normed hidden states, [R, width], to `hidden`.
// Returns 0, or, before reading anything, 1 for a token, 2 for a sequence and 3 for a position outside its table.
int32_t forward(const Model *m, const Cache *c, int32_t rows, const int32_t *tokens, const int32_t *sequences,
                const int32_t *positions, float *hidden, char *memory, int32_t threads) {
  if (!are_rows(tokens, rows, m->num_embeddings)) return 1;
  if (!are_rows(sequences, rows, c->num_sequences)) return 2;
  if (!are_rows(positions, rows, min_i64(m->num_positions, c->length))) return 3;
  Workspace w;
  lay_out(m, rows, c->length, threads, memory, &w);
  int64_t width = m->width, heads_width = m->num_heads * m->head_dim;
  int64_t qkv_width = heads_width + 2 * m->num_kv_heads * m->head_dim;
  int as_inputs = m->head.packed && rows > ROWS;  // then a row is converted while it is hot
#pragma omp parallel num_threads(threads)
  {
    // Each thread computes the norm of a single row itself, which is faster than waiting for it.
    float *normed = w.normed + (rows == 1 ? omp_get_thread_num() * width : 0);
#pragma omp for schedule(static)
    for (int r = 0; r < rows; r++) {
      const float *e = m->embedding + (int64_t)tokens[r] * width;
      float *x = w.residual + r * width;
      for (int64_t i = 0; i < width; i++) x[i] = e[i] + (m->positions ? m->positions[positions[r] * width + i] : 0);
    }
    for (int64_t layer = 0; layer < m->num_layers; layer++) {
      const Layer *l = m->layers + layer;
      if (rows == 1)
        norm(&l->norm_1, w.residual, normed, width, m->eps);
      else
        norm_rows(m, &l->norm_1, &w, rows, normed, as_inputs);
      for (int64_t i = 0, at = 0; i < m->num_qkv; at += l->qkv[i++].num_out)
        linear(&l->qkv[i], normed, width, w.qkv + at, qkv_width, rows, 0, w.inputs, as_inputs);
#pragma omp barrier
      attention(m, c, &w, layer, rows, sequences, positions);
      linear(&l->out, w.mixed, heads_width, w.residual, width, rows, 1, w.inputs, 0);
#pragma omp barrier
      if (rows == 1)
        norm(&l->norm_2, w.residual, normed, width, m->eps);
      else
        norm_rows(m, &l->norm_2, &w, rows, normed, as_inputs);
      feed_forward(m, l, &w, normed, rows, as_inputs);
    }
    norm_rows(m, &m->final_norm, &w, rows, hidden, 0);
  }
  return 0;
}

// logits [R, V] of normed hidden states [R, width]. `memory` as for `forward`.
void head_logits(const Model *m, const float *hidden, int32_t rows, float *logits, char *memory, int32_t threads) {
#pragma omp parallel num_threads(threads)
  linear(&m->head, hidden, m->width, logits, m->vocab, rows, 0, (Input *)memory, 0);
}

enum { CHUNK = 512 };

int64_t nll_bytes(const Model *m, int64_t rows, int32_t threads) {
  int64_t chunks = (m->vocab + CHUNK - 1) / CHUNK;
  return padded(rows, 32) * padded(m->width, 32) * sizeof(Input) + chunks * rows * 2 * sizeof(float) +
         threads * 32 * CHUNK * sizeof(float) + 256;
}

// nll[r] = -log p(target[r]) in nats, of normed hidden states [R, width] and a packed head. Logits live for 32 rows
// and CHUNK words at a time, in the second-level cache; each chunk keeps only its largest logit and its sum.
// Returns 0, or, before reading anything, 1 for a target outside the vocabulary.
int32_t head_nll(const Model *m, const float *hidden, const int32_t *targets, int32_t rows, float *nll, char *memory,
                 int32_t threads) {
  if (!are_rows(targets, rows, m->vocab)) return 1;
  int64_t V = m->vocab, num_chunks = (V + CHUNK - 1) / CHUNK, K = m->width, padded_K = padded(K, 32);
  Input *inputs = (Input *)memory;
  float *largest = (float *)(memory + padded(padded(rows, 32) * padded_K * sizeof(Input), 64)), *sums = largest + num_chunks * rows;
  float *all_logits = (float *)padded((int64_t)(sums + num_chunks * rows), 64);
#pragma omp parallel num_threads(threads)
  {
    int64_t begin, end;
    my_share(padded(rows, 32), 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) to_inputs(hidden, K, K, rows, r, 0, K, inputs);
#pragma omp barrier
    float *logits = all_logits + omp_get_thread_num() * 32 * CHUNK;
    float out[1024] __attribute__((aligned(64)));
    begin_tiles();
#pragma omp for schedule(dynamic)
    for (int64_t chunk = 0; chunk < num_chunks; chunk++) {
      int64_t v0 = chunk * CHUNK, count = min_i64(CHUNK, V - v0);
      for (int r0 = 0; r0 < rows; r0 += 32) {
        int num_rows = rows - r0 < 32 ? rows - r0 : 32;
        float highs[32];
        for (int r = 0; r < 32; r++) highs[r] = -INFINITY;
        for (int64_t v = 0; v < count; v += 32) {
          block_product(&m->head, inputs + r0 * padded_K, num_rows, 1, v0 + v, out);
          int width = (int)min_i64(32, count - v);
          for (int r = 0; r < num_rows; r++) {
            float high = highs[r], *restrict to = logits + r * CHUNK + v;
            if (width == 32)
#pragma omp simd reduction(max : high)
              for (int n = 0; n < 32; n++) to[n] = out[r * 32 + n], high = to[n] > high ? to[n] : high;
            else
              for (int n = 0; n < width; n++) to[n] = out[r * 32 + n], high = to[n] > high ? to[n] : high;
            highs[r] = high;
          }
        }
        for (int r = 0; r < num_rows; r++) {
          const float *row = logits + r * CHUNK;
          float high = highs[r], sum = 0;
#pragma omp simd reduction(+ : sum)
          for (int64_t v = 0; v < count; v++) sum += exp_f32(row[v] - high);
          largest[chunk * rows + r0 + r] = high;
          sums[chunk * rows + r0 + r] = sum;
          int64_t target = targets[r0 + r] - v0;
          if (target >= 0 && target < count) nll[r0 + r] = row[target];
        }
      }
    }
    end_tiles();
#pragma omp for schedule(static)
    for (int r = 0; r < rows; r++) {
      float high = -INFINITY, sum = 0;
      for (int64_t chunk = 0; chunk < num_chunks; chunk++) {
        float h = largest[chunk * rows + r];
        high = h > high ? h : high;
      }
      for (int64_t chunk = 0; chunk < num_chunks; chunk++)
        sum += sums[chunk * rows + r] * expf(largest[chunk * rows + r] - high);
      nll[r] = logf(sum) + high - nll[r];
    }
  }
  return 0;
}

void pack_weights(const Linear *l, uint16_t *packed, int32_t threads) {
  omp_set_num_threads(threads);
  pack(l, packed);
}

// The bfloat16 copy of n weights in their own order.
void round_weights(const float *weights, uint16_t *rounded, int64_t n, int32_t threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
  for (int64_t i = 0; i < n; i++) rounded[i] = round_f32(weights[i], (uint32_t)i);
}
