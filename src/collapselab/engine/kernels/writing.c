// Tokens one after the other in one call: where a token takes some 50 µs, calls from Python take as long again.
#include "common.h"

// Writes up to `count` tokens after `token`, which stands at `position` of sequence 0, and ends after `stop_token`.
// `noise` [count, V]; `hidden` and `logits`: room for a row; the rest as for `forward` and `draw_tokens`.
// Returns the number of tokens written, or 0 if the first cannot be read.
int32_t write_tokens(const Model *m, const Cache *c, int32_t token, int32_t position, int32_t count, int32_t stop_token,
                     const float *noise, float temperature, int64_t top_k, float min_p, float *hidden, float *logits,
                     char *memory, float *race, int32_t *tokens, Measures *measures, int32_t threads) {
  int32_t sequence = 0, written = 0;
  while (written < count) {
    if (forward(m, c, 1, &token, &sequence, &position, hidden, memory, threads)) break;
    head_logits(m, hidden, 1, logits, memory, threads);
    draw_tokens(logits, noise + written * m->vocab, 1, m->vocab, temperature, top_k, min_p, tokens + written,
                measures + written, race, threads);
    token = tokens[written++];
    position++;
    if (token == stop_token) break;
  }
  return written;
}
