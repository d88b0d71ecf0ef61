// Matrix products with bfloat16 weights in the tile layout of Intel's matrix unit (AMX), and the packing itself.
// Layout: blocks of 16 outputs; in a block, for every 32 inputs a tile of 16 x 32 values: [pair of inputs, output, 2].
// Inputs and outputs are padded with zeros, so a product never has a remainder.
#pragma once
#include "common.h"
#include <sys/mman.h>
#if defined(__AMX_BF16__) || defined(__AVX512BF16__)
#define HAS_BFLOAT16_PRODUCTS
#include <immintrin.h>
#endif
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { TILE = 512, ROWS = 16, STRIP = 16 };  // values of a weight tile; rows of a tile of inputs; sums in registers

static inline int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Rounds to bfloat16: up or down at random, with probabilities that make the mean exact. Rounding to nearest
// would lose updates smaller than half a unit in the last place; over a run this is a bias (docs/performance.md, Numerics).
// The random bits depend only on the position in the matrix, so equal weights are always rounded alike (and as in
// numerics.round_at_random).
static inline uint16_t round_f32(float x, uint32_t place) {
  union { float f; uint32_t u; } bits = {x};
  uint32_t h = place * 0x9E3779B1u;
  h = (h ^ (h >> 15)) * 0x85EBCA77u;
  h ^= h >> 13;
  uint32_t is_finite = (bits.u & 0x7F800000u) != 0x7F800000u;
  return (uint16_t)((bits.u + (is_finite ? h & 0xFFFFu : 0)) >> 16);
}

// Fills l->packed (padded(num_in, 32) * padded(num_out, 16) values) from l->weight.
static void pack(const Linear *l, uint16_t *packed) {
  int64_t K = l->num_in, N = l->num_out, num_tiles = padded(K, 32) / 32, num_blocks = padded(N, 16) / 16;
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < num_blocks; block++)
    for (int64_t t = 0; t < num_tiles; t++) {
      uint16_t *tile = packed + (block * num_tiles + t) * TILE;
      int64_t k0 = t * 32, n0 = block * 16;
      float values[32][16];
      if (k0 + 32 > K || n0 + 16 > N) memset(values, 0, sizeof values);
      int64_t ks = min_i64(32, K - k0), ns = min_i64(16, N - n0);
      if (l->is_in_out)
        for (int64_t k = 0; k < ks; k++) memcpy(values[k], l->weight + (k0 + k) * N + n0, ns * sizeof(float));
      else
        for (int64_t n = 0; n < ns; n++)
          for (int64_t k = 0; k < ks; k++) values[k][n] = l->weight[(n0 + n) * K + k0 + k];
      uint32_t by_k = l->is_in_out ? N : 1, by_n = l->is_in_out ? 1 : K, place = (uint32_t)k0 * by_k + (uint32_t)n0 * by_n;
      for (int pair = 0; pair < 16; pair++)
#pragma omp simd
        for (int n = 0; n < 16; n++) {
          uint32_t at = place + 2 * pair * by_k + n * by_n;
          uint32_t low = round_f32(values[2 * pair][n], at), high = round_f32(values[2 * pair + 1][n], at + by_k);
          ((uint32_t *)tile)[pair * 16 + n] = low | high << 16;
        }
    }
}

// x as the products read it, [padded(R, 16), padded(K, 32)]: bfloat16 (to nearest even) where the processor
// multiplies it, else float32.
#ifdef HAS_BFLOAT16_PRODUCTS
typedef uint16_t Input;
static inline Input to_input(float x) {
  union { float f; uint32_t u; } bits = {x};
  uint32_t rounded = (bits.u + 0x7FFFu + (bits.u >> 16 & 1)) >> 16;
  return (uint16_t)(x != x ? 0x7FC0u : rounded);
}
#else
typedef float Input;
static inline Input to_input(float x) { return x; }
#endif

// Row r of x, columns k0 (a multiple of 32) to k1, as the products read it: tiles
// [padded(R, 32) / 16, padded(K, 32) / 32, 16, 32]. Padding is 0.
static inline void to_inputs(const float *x, int64_t x_stride, int64_t K, int rows, int64_t r, int64_t k0, int64_t k1,
                             Input *inputs) {
  int64_t num_tiles = padded(K, 32) / 32;
  Input *out = inputs + (r / ROWS * num_tiles * ROWS + r % ROWS) * 32 + k0 / 32 * TILE;
  for (const float *restrict in = x + r * x_stride; k0 < k1; k0 += 32, out += TILE) {
    int64_t count = r < rows ? min_i64(32, K - k0) : 0;
    if (count < 32) memset(out, 0, 32 * sizeof(Input));
#pragma omp simd
    for (int64_t k = 0; k < count; k++) out[k] = to_input(in[k0 + k]);
  }
}

#ifdef __AMX_BF16__
typedef struct __attribute__((packed)) {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes_per_row[16];
  uint8_t rows[16];
} TileConfig;

static inline void begin_tiles(void) {
  TileConfig config = {.palette = 1};
  for (int i = 0; i < 8; i++) config.bytes_per_row[i] = 64, config.rows[i] = 16;
  _tile_loadconfig(&config);
}
static inline void end_tiles(void) { _tile_release(); }

// Linux grants the tile registers to a process on request.
int32_t prepare_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

static inline void tile_product(const Input *x, int rows, int num_blocks, const uint16_t *const *w, int64_t num_tiles,
                                float *out) {
  const Input *x1 = x + num_tiles * TILE;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (num_blocks == 2) {
    for (int64_t t = 0; t < num_tiles; t++) {
      // Inputs bypass the first-level cache, which keeps the weights of these blocks: 40 % faster at K = 768.
      _tile_stream_loadd(4, x + t * TILE, 64);
      _tile_loadd(6, w[0] + t * TILE, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, w[1] + t * TILE, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_stream_loadd(5, x1 + t * TILE, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
    _tile_stored(2, out + 512, 128);
    _tile_stored(3, out + 528, 128);
  } else {  // four streams of weights: memory delivers more than with two
    for (int64_t t = 0; t < num_tiles; t++) {
      _tile_loadd(4, x + t * TILE, 64);
      _tile_loadd(5, w[0] + t * TILE, 64);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(6, w[1] + t * TILE, 64);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(7, w[2] + t * TILE, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, w[3] + t * TILE, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, out, 256);
    _tile_stored(1, out + 16, 256);
    _tile_stored(2, out + 32, 256);
    _tile_stored(3, out + 48, 256);
  }
}
#else
static inline void begin_tiles(void) {}
static inline void end_tiles(void) {}
int32_t prepare_tiles(void) { return 1; }

typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));

// sum[n] + x[0] * w[n][0] + x[1] * w[n][1], for 16 outputs n.
static inline __attribute__((always_inline)) Lanes add_pair(Lanes sum, const Input *x, Words w) {
#ifdef HAS_BFLOAT16_PRODUCTS
  int32_t pair;
  memcpy(&pair, x, sizeof pair);
  return (Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)w);
#else
  return sum + (x[0] * (Lanes)(w << 16) + x[1] * (Lanes)(w & 0xFFFF0000u));
#endif
}

// The same for `rows` of the rows: their sums stay in registers for all inputs.
static inline __attribute__((always_inline)) void strip(int rows, int num_blocks, const Input *x,
                                                        const uint16_t *const *w, int64_t num_tiles, float *out) {
  Lanes sums[STRIP];
  for (int i = 0; i < rows * num_blocks; i++) sums[i] = (Lanes){0};
  for (int64_t t = 0; t < num_tiles; t++)
    for (int pair = 0; pair < 16; pair++)
      for (int block = 0; block < num_blocks; block++) {
        Words pairs = *(const Words *)(w[block] + t * TILE + pair * 32);
        for (int r = 0; r < rows; r++) {
          Lanes *sum = sums + r * num_blocks + block;
          *sum = add_pair(*sum, x + t * TILE + r * 32 + 2 * pair, pairs);
        }
      }
  for (int i = 0; i < rows * num_blocks; i++) *(Lanes *)(out + i * 16) = sums[i];
}

static inline void tile_product(const Input *x, int rows, int num_blocks, const uint16_t *const *w, int64_t num_tiles,
                                float *out) {
  for (int r = 0, step; r < rows; r += step) {
    const Input *from = x + (r / ROWS * num_tiles * ROWS + r % ROWS) * 32;
    float *to = out + r * num_blocks * 16;
    step = rows - r >= STRIP / num_blocks ? STRIP / num_blocks : 1;
    if (num_blocks == 2)
      step > 1 ? strip(STRIP / 2, 2, from, w, num_tiles, to) : strip(1, 2, from, w, num_tiles, to);
    else
      step > 1 ? strip(STRIP / 4, 4, from, w, num_tiles, to) : strip(1, 4, from, w, num_tiles, to);
  }
}
#endif

// out [32 or 16, width]: products of `rows` rows with the weights of outputs n0 to n0 + width, which is 32 for rows of
// a panel of more than 16, else 64. Other rows of `out` are undefined.
static inline int block_product(const Linear *l, const Input *inputs, int rows, int is_panel, int64_t n0, float *out) {
  int64_t num_tiles = padded(l->num_in, 32) / 32, last = padded(l->num_out, 16) / 16 - 1;
  int num_blocks = is_panel ? 2 : 4;
  const uint16_t *w[4];
  for (int b = 0; b < num_blocks; b++) w[b] = l->packed + min_i64(n0 / 16 + b, last) * num_tiles * TILE;
  tile_product(inputs, rows, num_blocks, w, num_tiles, out);
  return 16 * num_blocks;
}

// What to do with the products x W + b.
typedef enum { STORE, ADD, GELU, GATED } After;

// Activates a block of 32 x 32 products: GELU, or SiLU(gate) * products. Whole blocks keep the pipeline full.
static inline void activate_block(float *restrict out, const float *bias, const float *gate, int64_t gate_stride,
                                  int64_t rows, int64_t columns, int is_gated) {
  if (is_gated)
    for (int64_t r = 0; r < rows; r++)
#pragma omp simd
      for (int64_t n = 0; n < columns; n++) out[r * 32 + n] = silu(gate[r * gate_stride + n]) * (out[r * 32 + n] + bias[n]);
  else
    for (int r = 0; r < 32; r++)
#pragma omp simd
      for (int n = 0; n < 32; n++) out[r * 32 + n] = gelu(out[r * 32 + n] + bias[n]);
}

// `after`: y = products (STORE), y += products (ADD), or, for many rows, the activated products as tiles of inputs for
// the next matrix, `active`: GELU, or SiLU(y) * products where y holds the gate (GATED). All threads take part.
static inline __attribute__((always_inline)) void linear_packed(const Linear *l, const Input *inputs, float *y,
                                                                int64_t y_stride, int rows, After after, Input *active) {
  int64_t begin, end, K = padded(l->num_in, 32), active_K = padded(l->num_out, 32), step = rows > ROWS ? 32 : 64;
  float out[1024] __attribute__((aligned(64))), bias[64] = {0};
  my_share(padded(l->num_out, 16), 64, &begin, &end);
  if (rows > ROWS) memset(out, 0, sizeof out);  // the padding is activated too
  begin_tiles();
  int panel = (int)(393216 / K) / 32 * 32;  // rows whose inputs stay in the second-level cache
  panel = panel < 32 ? 32 : panel;
  for (int p0 = 0; p0 < rows; p0 += panel)
    for (int64_t n0 = begin; n0 < end; n0 += step) {
      int64_t ns = min_i64(step, l->num_out - n0);
      for (int64_t n = 0; l->bias && n < ns; n++) bias[n] = l->bias[n0 + n];
      for (int r0 = p0; r0 < rows && r0 < p0 + panel; r0 += 32) {
        int width = block_product(l, inputs + r0 * K, (int)min_i64(32, rows - r0), rows > ROWS, n0, out);
        if (after == GELU || after == GATED) {
          activate_block(out, bias, y + r0 * y_stride + n0, y_stride, min_i64(32, rows - r0), ns, after == GATED);
          for (int r = 0; r < 32; r++) {
            Input *restrict to = active + ((r0 + r) / ROWS * active_K + n0) * ROWS + r % ROWS * 32;
#pragma omp simd
            for (int n = 0; n < 32; n++) to[n] = to_input(out[r * 32 + n]);
          }
          continue;
        }
        for (int r = r0; r < rows && r < r0 + 32; r++) {
          float *restrict to = y + r * y_stride + n0;
          const float *from = out + (r - r0) * width;
          if (after == ADD)
#pragma omp simd
            for (int64_t n = 0; n < ns; n++) to[n] += from[n] + bias[n];
          else
#pragma omp simd
            for (int64_t n = 0; n < ns; n++) to[n] = from[n] + bias[n];
        }
      }
    }
  end_tiles();
}

// Memory in large pages is read about 10 % faster; call this before the memory is first touched.
void prefer_large_pages(char *memory, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  int64_t begin = padded((int64_t)memory, 1 << 21), end = ((int64_t)memory + bytes) >> 21 << 21;
  if (end > begin) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#endif
}
