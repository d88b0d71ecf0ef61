// Repetition inside samples, many at once; equals metrics.repetition_metrics (the definitions are there).
#include "common.h"

enum { MIN_MAX_PERIOD = 64, SLIP_DISTANCE = 64, REP_W = 16 };

typedef struct {
  int64_t num_distinct[4];  // n-grams, n = 1 to 4
  int64_t num_near, num_in_repeated_bigrams, top_count, longest_repeat;
  int64_t period, begin, end, at_end;  // the tolerant loop; period 0: none
  int64_t strict_span;
  double match_sum;  // of (1 + L_i) / ln i
} Repetition;

// A map from pairs of numbers to numbers: open addressing, emptied by a new stamp.
typedef struct {
  uint64_t *keys;
  int32_t *values;
  uint32_t *stamps, stamp;
  uint64_t mask;
} Map;

static void map_open(Map *m, int64_t capacity) {
  uint64_t size = 16;
  while (size < 2 * (uint64_t)capacity) size *= 2;
  *m = (Map){malloc(8 * size), malloc(4 * size), calloc(size, 4), 0, size - 1};
}

static void map_close(Map *m) { free(m->keys), free(m->values), free(m->stamps); }

static inline uint64_t pair(uint32_t first, uint32_t second) { return (uint64_t)first << 32 | second; }

// The place of a key: where it is, or where it belongs (then *is_new is set).
static inline int32_t *map_at(Map *m, uint64_t key, int *is_new) {
  uint64_t h = key * 0x9E3779B97F4A7C15ull;
  for (h = (h ^ h >> 32) & m->mask; m->stamps[h] == m->stamp; h = (h + 1) & m->mask)
    if (m->keys[h] == key) return *is_new = 0, m->values + h;
  m->stamps[h] = m->stamp, m->keys[h] = key;
  return *is_new = 1, m->values + h;
}

// Memory for samples of up to T tokens: a suffix automaton has up to 2T states and 3T edges.
typedef struct {
  Map grams, edges;
  int32_t *numbers, *counts, *last_seen;                    // of n-grams
  int32_t *length, *first_end, *link, *head;                // of states; head: the first of a state's edges
  int32_t *edge_next, *edge_target, *match;                 // of edges; match lengths
  uint32_t *edge_token;
  int32_t *num_equal, *slips;                               // x_i = x_{i-lag}, by lag; positions
  uint8_t *mismatch, *is_echoed, *is_lone;                  // by position
} Room;

static void room_open(Room *r, int64_t T) {
  map_open(&r->grams, T + 1), map_open(&r->edges, 3 * T + 4);
  r->numbers = malloc(4 * (T + 1)), r->counts = malloc(4 * (T + 1)), r->last_seen = malloc(4 * (T + 1));
  r->length = malloc(8 * (T + 1)), r->first_end = malloc(8 * (T + 1)), r->link = malloc(8 * (T + 1));
  r->head = malloc(8 * (T + 1)), r->match = malloc(4 * (T + 1));
  r->edge_next = malloc(12 * (T + 2)), r->edge_target = malloc(12 * (T + 2)), r->edge_token = malloc(12 * (T + 2));
  r->num_equal = malloc(4 * (T + 2 * MIN_MAX_PERIOD + 2)), r->slips = malloc(4 * (T + 1));
  r->mismatch = malloc(T + 1), r->is_echoed = malloc(T + 1), r->is_lone = malloc(T + 1);
}

static void room_close(Room *r) {
  map_close(&r->grams), map_close(&r->edges);
  free(r->numbers), free(r->counts), free(r->last_seen), free(r->length), free(r->first_end), free(r->link);
  free(r->head), free(r->match), free(r->edge_next), free(r->edge_target), free(r->edge_token);
  free(r->num_equal), free(r->slips), free(r->mismatch), free(r->is_echoed), free(r->is_lone);
}

// Numbers of n-grams grow from those of (n-1)-grams: no hash stands for another n-gram.
static void count_ngrams(const uint32_t *x, int64_t T, Room *r, Repetition *out) {
  for (int n = 1; n <= 4; n++) {
    int32_t num_known = 0;
    r->grams.stamp++;
    for (int64_t i = 0; i + n <= T; i++) {
      int is_new;
      int32_t *number = map_at(&r->grams, pair(n == 1 ? 0 : (uint32_t)r->numbers[i], x[i + n - 1]), &is_new);
      if (is_new) *number = num_known, r->counts[num_known] = 0, r->last_seen[num_known++] = -REP_W - 1;
      if (n == 1) out->num_near += i - r->last_seen[*number] <= REP_W, r->last_seen[*number] = (int32_t)i;
      r->counts[*number]++;
      r->numbers[i] = *number;
    }
    out->num_distinct[n - 1] = num_known;
    if (n == 1)
      for (int32_t k = 0; k < num_known; k++) out->top_count = max_i64(out->top_count, r->counts[k]);
    if (n == 2)
      for (int64_t i = 0; i < T; i++)
        out->num_in_repeated_bigrams += (i > 0 && r->counts[r->numbers[i - 1]] > 1) ||
                                        (i + 1 < T && r->counts[r->numbers[i]] > 1);
  }
}

static void add_edge(Room *r, int32_t *num_edges, int32_t state, uint32_t token, int32_t target) {
  int is_new;
  int32_t edge = (*num_edges)++;
  *map_at(&r->edges, pair(state, token), &is_new) = edge;
  r->edge_token[edge] = token, r->edge_target[edge] = target;
  r->edge_next[edge] = r->head[state], r->head[state] = edge;
}

// The edge of a state for a token, or -1.
static inline int32_t edge_of(Room *r, int32_t state, uint32_t token) {
  uint64_t key = pair(state, token), h = key * 0x9E3779B97F4A7C15ull;
  Map *m = &r->edges;
  for (h = (h ^ h >> 32) & m->mask; m->stamps[h] == m->stamp; h = (h + 1) & m->mask)
    if (m->keys[h] == key) return m->values[h];
  return -1;
}

// The suffix automaton of matches.py.
static void build_automaton(const uint32_t *x, int64_t T, Room *r) {
  int32_t num_states = 1, num_edges = 0, last = 0;
  r->edges.stamp++;
  r->length[0] = 0, r->first_end[0] = -1, r->link[0] = -1, r->head[0] = -1;
  for (int64_t end = 0; end < T; end++) {
    int32_t current = num_states++, state = last, edge = -1;
    r->length[current] = (int32_t)end + 1, r->first_end[current] = (int32_t)end;
    r->link[current] = 0, r->head[current] = -1;
    for (; state != -1 && (edge = edge_of(r, state, x[end])) < 0; state = r->link[state])
      add_edge(r, &num_edges, state, x[end], current);
    last = current;
    if (state == -1) continue;
    int32_t target = r->edge_target[edge];
    if (r->length[target] != r->length[state] + 1) {
      int32_t clone = num_states++;
      r->length[clone] = r->length[state] + 1, r->first_end[clone] = r->first_end[target];
      r->link[clone] = r->link[target], r->head[clone] = -1;
      for (int32_t e = r->head[target]; e >= 0; e = r->edge_next[e])
        add_edge(r, &num_edges, clone, r->edge_token[e], r->edge_target[e]);
      r->link[target] = clone;
      for (; state != -1 && (edge = edge_of(r, state, x[end])) >= 0 && r->edge_target[edge] == target;
           state = r->link[state])
        r->edge_target[edge] = clone;
      target = clone;
    }
    r->link[current] = target;
  }
}

static void match_lengths(const uint32_t *x, int64_t T, Room *r, Repetition *out) {
  build_automaton(x, T, r);
  int32_t state = 0, length = 0;
  for (int64_t i = 0; i < T; i++) {
    while (i + length < T) {
      int32_t longer = r->edge_target[edge_of(r, state, x[i + length])];
      if (r->first_end[longer] - length >= i) break;
      state = longer, length++;
    }
    out->longest_repeat = max_i64(out->longest_repeat, length);
    if (i > 0) out->match_sum += (1 + length) / log((double)(i + 1));
    if (length && --length == r->length[r->link[state]]) state = r->link[state];
  }
}

static int64_t strict_span(const uint32_t *x, int64_t T, int64_t p) {
  int64_t longest = 0, run = 0;
  for (int64_t i = p; i < T; i++) run = x[i] == x[i - p] ? run + 1 : 0, longest = max_i64(longest, run);
  return longest + p;
}

// `_tolerant_loop` of repetition.py, slip by slip.
static void tolerant_loop(const uint32_t *x, int64_t T, int64_t p, Room *r, Repetition *out) {
  uint8_t *mismatch = r->mismatch, *is_echoed = r->is_echoed, *is_lone = r->is_lone;
  int64_t num_slips = 0;
  for (int64_t i = 0; i < T; i++) mismatch[i] = i >= p && x[i] != x[i - p], is_echoed[i] = is_lone[i] = 0;
  for (int64_t i = p; i < T; i++) {
    if (!mismatch[i]) continue;
    if (i >= 2 * p && mismatch[i - p] && !mismatch[i - 2 * p] && x[i] == x[i - 2 * p])
      is_echoed[i - p] = 1;
    else
      r->slips[num_slips++] = (int32_t)i;
  }
  int64_t begin = 0, end = T, at_end = 1, span = num_slips ? -T : T;
  for (int64_t k = 0; k < num_slips; k++) is_lone[r->slips[k]] = !is_echoed[r->slips[k]];
  for (int64_t k = 0, after = 0, before; k < num_slips;) {  // a chain of slips: from k to the next that is too near
    int64_t slip = r->slips[k], start = k ? after : p;
    before = after;
    after = max_i64(before, slip + is_echoed[slip] * p + 1);
    if (start > slip) start = after;
    start += start < T && is_lone[start];
    while (++k < num_slips && r->slips[k] - r->slips[k - 1] >= SLIP_DISTANCE)
      after = max_i64(after, r->slips[k] + is_echoed[r->slips[k]] * p + 1);
    int64_t stop = k < num_slips ? r->slips[k] : T, trimmed = stop - (stop - 1 == r->slips[k - 1]);
    if (trimmed - start > span - p || span == -T)
      begin = start - p, end = trimmed, at_end = stop == T, span = end - begin;
  }
  if (span > out->end - out->begin && span >= 2 * p)
    out->period = p, out->begin = begin, out->end = end, out->at_end = at_end;
}

static void find_loops(const uint32_t *x, int64_t T, Room *r, Repetition *out) {
  int64_t max_period = min_i64(max_i64(MIN_MAX_PERIOD, T / 3), T / 2);
  for (int64_t lag = 1; lag <= 2 * max_period; lag++) {
    int32_t equal = 0;
#pragma omp simd reduction(+ : equal)
    for (int64_t i = lag; i < T; i++) equal += x[i] == x[i - lag];
    r->num_equal[lag] = equal;
  }
  for (int64_t p = 1; p <= max_period; p++) {
    int64_t bound = p + r->num_equal[p] + r->num_equal[2 * p] + 1 + T / SLIP_DISTANCE;
    if (bound >= max_i64(out->end - out->begin + 1, 2 * p)) tolerant_loop(x, T, p, r, out);
    if (bound >= max_i64(out->strict_span + 1, 2 * p)) {
      int64_t span = strict_span(x, T, p);
      if (span >= 2 * p && span > out->strict_span) out->strict_span = span;
    }
  }
}

// Samples are ids[offsets[s]] to ids[offsets[s + 1]].
void repetition(const uint32_t *ids, const int64_t *offsets, int64_t num_samples, Repetition *out, int32_t threads) {
  int64_t longest = 1;
  for (int64_t s = 0; s < num_samples; s++) longest = max_i64(longest, offsets[s + 1] - offsets[s]);
#pragma omp parallel num_threads(threads)
  {
    Room room;
    room_open(&room, longest);
#pragma omp for schedule(dynamic, 8)
    for (int64_t s = 0; s < num_samples; s++) {
      const uint32_t *x = ids + offsets[s];
      int64_t T = offsets[s + 1] - offsets[s];
      memset(out + s, 0, sizeof(Repetition));
      count_ngrams(x, T, &room, out + s);
      match_lengths(x, T, &room, out + s);
      find_loops(x, T, &room, out + s);
    }
    room_close(&room);
  }
}

// Of each window of a text, the share of its 4-grams that stand in the `looked_back` tokens before it.
void repeated_shares(const uint32_t *x, int64_t T, int64_t window, int64_t looked_back, double *shares) {
  Map grams;
  map_open(&grams, T + 1);
  int32_t *numbers = malloc(4 * (T + 1)), *latest = malloc(4 * (T + 1)), num_known = 0;
  for (int n = 1; n <= 4; n++) {
    num_known = 0, grams.stamp++;
    for (int64_t i = 0; i + n <= T; i++) {
      int is_new;
      int32_t *number = map_at(&grams, pair(n == 1 ? 0 : (uint32_t)numbers[i], x[i + n - 1]), &is_new);
      if (is_new) *number = num_known++;
      numbers[i] = *number;
    }
  }
  for (int32_t k = 0; k < num_known; k++) latest[k] = -1;
  for (int64_t begin = 0, added = 0; begin < T; begin += window) {
    for (; added < begin - 3; added++) latest[numbers[added]] = (int32_t)added;
    int64_t end = min_i64(begin + window, T) - 3, known = 0, earliest = max_i64(0, begin - looked_back);
    for (int64_t i = begin; i < end; i++) known += latest[numbers[i]] >= earliest;
    *shares++ = end > begin ? (double)known / (end - begin) : 0;
  }
  map_close(&grams), free(numbers), free(latest);
}
