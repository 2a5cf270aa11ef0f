// The networks of mlp.h on the processor's matrix unit (Intel AMX): numbers rounded to bfloat16, sums in float32.
// A block is 32 points, which pass all layers one after another. Its rows of 32 numbers are one operand of a product as
// they are; the other operand wants two rows interleaved (`pairs`: lanes are points), or, for the weights' gradients
// that sum over points, transposed in twos (`turned`: lanes are rows). Rows are padded with zeros to whole tiles.
#pragma once
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define DIGITIZE_AMX 1
#include <cstring>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mlp.h"

namespace amx {

using mlp::Net;
typedef uint16_t Half;
constexpr int BLOCK = 32, GROUP = 8; // points of a block; blocks whose gradients are added up in registers
constexpr int TILE = 512;            // halves in a tile of 16 rows
constexpr int GROUPS_A_CHUNK = 8, MAX_CHUNKS = 64;

static inline int rows16(int n) { return (n + 15) / 16 * 16; }
static inline int rows32(int n) { return (n + 31) / 32 * 32; }
static inline int kept_rows(const Net &net) {
  int rows = 0;
  for (int l = 1; l < net.layers; l++) rows += rows32(net.widths[l]);
  return rows;
}

// Asks the kernel for the matrix registers; false where it does not give them.
static inline bool prepare() {
  constexpr long REQUEST = 0x1023, TILE_DATA = 18;
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

// The tiles' shape, for as long as it lives: 16 rows of 64 bytes.
struct Tiles {
  Tiles() {
    alignas(64) struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {};
    shape.palette = 1;
    for (int t = 0; t < 8; t++) shape.bytes[t] = 64, shape.rows[t] = 16;
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
};

struct FreeAligned { void operator()(Half *p) const { std::free(p); } };
using Halves = std::unique_ptr<Half[], FreeAligned>;
static inline Halves halves(size_t count) { return Halves((Half *)std::aligned_alloc(64, (count * 2 + 63) / 64 * 64)); }

static inline __m512i narrow(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// A layer's weights in tiles, for the way up (`turned` false) and for the way back.
static inline void pack(const float *weight, int outs, int ins, bool turned, Half *to) {
  const int rows = turned ? ins : outs, columns = turned ? outs : ins;
  for (int r = 0; r < rows32(rows); r++)
    for (int k = 0; k < rows32(columns); k += 32) {
      alignas(64) float part[32] = {};
      if (r < rows)
        for (int j = 0; j < std::min(32, columns - k); j++)
          part[j] = turned ? weight[(k + j) * ins + r] : weight[r * ins + k + j];
      Half *tile = to + ((size_t)(r / 16) * (rows32(columns) / 32) + k / 32) * TILE;
      _mm512_store_si512(tile + r % 16 * 32, narrow(_mm512_load_ps(part), _mm512_load_ps(part + 16)));
    }
}

struct Packed {
  std::vector<size_t> at;
  Halves data;
  Packed(const Net &net, bool turned) {
    size_t total = 0;
    for (int l = 0; l < net.layers; l++) at.push_back(total), total += (size_t)rows32(net.widths[l]) * rows32(net.widths[l + 1]);
    data = halves(total);
    for (int l = 0; l < net.layers; l++) pack(net.weights[l], net.widths[l + 1], net.widths[l], turned, data.get() + at[l]);
  }
  const Half *of(int layer) const { return data.get() + at[layer]; }
};

// The compiler does not know that loading a tile reads memory.
static inline void settle_memory() { __asm__ volatile("" ::: "memory"); }

// out [row_tiles * 16][32] = weights [row_tiles * 16][k_tiles * 32] times what `pairs` [2][k_tiles * 16][32] holds.
static inline void multiply(const Half *weights, int row_tiles, int k_tiles, const Half *pairs, float *out) {
  settle_memory();
  const Half *second = pairs + (size_t)k_tiles * TILE;
  for (int r = 0; r < row_tiles; r += 2) {
    const Half *a = weights + (size_t)r * k_tiles * TILE, *b = a + (size_t)k_tiles * TILE;
    float *to = out + r * 16 * BLOCK;
    _tile_zero(0); _tile_zero(1);
    if (r + 1 < row_tiles) {
      _tile_zero(2); _tile_zero(3);
      for (int k = 0; k < k_tiles; k++) {
        _tile_loadd(4, a + k * TILE, 64); _tile_loadd(6, pairs + k * TILE, 64); _tile_loadd(7, second + k * TILE, 64);
        _tile_loadd(5, b + k * TILE, 64);
        _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(2, to + 16 * BLOCK, 128); _tile_stored(3, to + 16 * BLOCK + 16, 128);
    } else
      for (int k = 0; k < k_tiles; k++) {
        _tile_loadd(4, a + k * TILE, 64); _tile_loadd(6, pairs + k * TILE, 64); _tile_loadd(7, second + k * TILE, 64);
        _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7);
      }
    _tile_stored(0, to, 128); _tile_stored(1, to + 16, 128);
  }
  settle_memory();
}

// sums [in_tiles * 16][out_tiles * 16] += in times `turned` over the points of some blocks. A block's rows of `in` are
// `in_pitch` halves from those of the next one, its turned tiles `turned_pitch`.
static inline void accumulate(const Half *in, size_t in_pitch, const Half *turned, size_t turned_pitch, int blocks,
                              int in_tiles, int out_tiles, float *sums) {
  settle_memory();
  const int pitch = out_tiles * 64; // bytes
  for (int i = 0; i < in_tiles; i += 2)
    for (int o = 0; o < out_tiles; o += 2) {
      const bool more_in = i + 1 < in_tiles, more_out = o + 1 < out_tiles;
      float *to = sums + (size_t)i * 16 * out_tiles * 16 + o * 16, *below = to + 16 * out_tiles * 16;
      const Half *a = in + (size_t)i * TILE, *b = turned + (size_t)o * TILE;
      _tile_loadd(0, to, pitch);
      if (more_out) _tile_loadd(1, to + 16, pitch);
      if (more_in) _tile_loadd(2, below, pitch);
      if (more_in && more_out) _tile_loadd(3, below + 16, pitch);
      for (int block = 0; block < blocks; block++, a += in_pitch, b += turned_pitch) {
        _tile_loadd(4, a, 64); _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (more_out) {
          _tile_loadd(7, b + TILE, 64);
          _tile_dpbf16ps(1, 4, 7);
        }
        if (more_in) {
          _tile_loadd(5, a + TILE, 64);
          _tile_dpbf16ps(2, 5, 6);
          if (more_out) _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, to, pitch);
      if (more_out) _tile_stored(1, to + 16, pitch);
      if (more_in) _tile_stored(2, below, pitch);
      if (more_in && more_out) _tile_stored(3, below + 16, pitch);
    }
  settle_memory();
}

// `pairs` [2][rows / 2][16 points][2] of rows [rows][32].
static inline void interleave(const Half *in, int rows, Half *pairs) {
  alignas(64) static const Half LOW[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                           8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(LOW), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int r = 0; r < rows; r += 2) {
    const __m512i a = _mm512_loadu_si512(in + r * BLOCK), b = _mm512_loadu_si512(in + (r + 1) * BLOCK);
    _mm512_storeu_si512(pairs + r / 2 * 32, _mm512_permutex2var_epi16(a, low, b));
    _mm512_storeu_si512(pairs + rows / 2 * 32 + r / 2 * 32, _mm512_permutex2var_epi16(a, high, b));
  }
}

// Tiles [rows / 16][16 twos of points][16 rows][2] of rows [rows][32]: 16 x 16 transpositions of twos.
static inline void turn(const Half *in, int rows, Half *turned) {
  for (int r = 0; r < rows; r += 16, in += TILE, turned += TILE) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(in + i * 32);
    for (int i = 0; i < 16; i += 2) b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    for (int i = 0; i < 16; i += 4)
      for (int j = 0; j < 2; j++) {
        a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + 2 + j]);
        a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + 2 + j]);
      }
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 2; j++) {
        b[8 * j + i] = _mm512_shuffle_i32x4(a[8 * j + i], a[8 * j + 4 + i], 0x88);
        b[8 * j + 4 + i] = _mm512_shuffle_i32x4(a[8 * j + i], a[8 * j + 4 + i], 0xdd);
      }
    for (int i = 0; i < 8; i++) {
      _mm512_storeu_si512(turned + i % 4 * 32 + i / 4 * 4 * 32, _mm512_shuffle_i32x4(b[i], b[8 + i], 0x88));
      _mm512_storeu_si512(turned + (8 + i % 4 + i / 4 * 4) * 32, _mm512_shuffle_i32x4(b[i], b[8 + i], 0xdd));
    }
  }
}

// A block's rows [rows][32] from sums [rows][32], what is negative replaced by 0, or what `gate` is not positive for.
static inline void narrow_rows(const float *sums, int rows, const Half *gate, Half *to) {
  const __m512i zero = _mm512_setzero_si512();
  for (int r = 0; r < rows; r++) {
    const __m512i v = narrow(_mm512_loadu_ps(sums + r * BLOCK), _mm512_loadu_ps(sums + r * BLOCK + 16));
    const __m512i open = gate ? _mm512_loadu_si512(gate + r * BLOCK) : v; // positive floats are positive integers
    _mm512_storeu_si512(to + r * BLOCK, _mm512_maskz_mov_epi16(_mm512_cmpgt_epi16_mask(open, zero), v));
  }
}

static inline __mmask16 lanes(int64_t left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1 << left) - 1); }

// The rows of some blocks [blocks][rows32(rows)][32] from [rows, n], zeros behind the last point.
static inline void load_blocks(const float *from, int rows, int64_t n, int64_t begin, int blocks, Half *to) {
  const int padded = rows32(rows);
  for (int r = 0; r < padded; r++)
    for (int b = 0; b < blocks; b++) {
      Half *place = to + ((size_t)b * padded + r) * BLOCK;
      if (r >= rows) {
        _mm512_storeu_si512(place, _mm512_setzero_si512());
        continue;
      }
      const int64_t p = begin + b * BLOCK;
      const float *row = from + r * n + p;
      _mm512_storeu_si512(place, narrow(_mm512_maskz_loadu_ps(lanes(n - p), row), _mm512_maskz_loadu_ps(lanes(n - p - 16), row + 16)));
      if (p + GROUP * BLOCK + 16 < n) // rows lie in pages far apart, which the processor does not foresee
        __builtin_prefetch(row + GROUP * BLOCK, 0, 2), __builtin_prefetch(row + GROUP * BLOCK + 16, 0, 2);
    }
}
static inline void store_block(const float *sums, int rows, int64_t n, int64_t p, float *to) {
  for (int r = 0; r < rows; r++) {
    _mm512_mask_storeu_ps(to + r * n + p, lanes(n - p), _mm512_loadu_ps(sums + r * BLOCK));
    _mm512_mask_storeu_ps(to + r * n + p + 16, lanes(n - p - 16), _mm512_loadu_ps(sums + r * BLOCK + 16));
  }
}

static inline int64_t groups_of(int64_t n) { return (n + GROUP * BLOCK - 1) / (GROUP * BLOCK); }
static inline int blocks_of(int64_t n, int64_t group) {
  return (int)std::min<int64_t>(GROUP, (n - group * GROUP * BLOCK + BLOCK - 1) / BLOCK);
}
// Halves of what the backward pass needs: [blocks][kept_rows][32].
static inline int64_t hidden_halves(const Net &net, int64_t n) { return groups_of(n) * GROUP * kept_rows(net) * BLOCK; }

// As mlp::forward; hidden: `hidden_halves`, or null.
static void forward(const Net &net, const float *x, int64_t n, float *y, Half *hidden) {
  const Packed weights(net, false);
  const int widest = rows32(net.widest()), kept = kept_rows(net), ins = rows32(net.widths[0]), outs = net.widths[net.layers];
#pragma omp parallel num_threads(threads)
  {
    Tiles tiles;
    Halves input = halves((size_t)GROUP * ins * BLOCK), own = halves((size_t)std::max(kept, 1) * BLOCK),
           pairs = halves((size_t)widest * BLOCK);
    mlp::Buffer sums = mlp::buffer((size_t)widest * BLOCK);
#pragma omp for schedule(dynamic, 4)
    for (int64_t group = 0; group < groups_of(n); group++) {
      const int64_t begin = group * GROUP * BLOCK;
      load_blocks(x, net.widths[0], n, begin, blocks_of(n, group), input.get());
      for (int b = 0; b < blocks_of(n, group); b++) {
        const Half *from = input.get() + (size_t)b * ins * BLOCK;
        Half *to = hidden ? hidden + (size_t)(group * GROUP + b) * kept * BLOCK : own.get();
        for (int l = 0; l < net.layers; l++) {
          const int rows = net.widths[l + 1], from_rows = rows32(net.widths[l]);
          const bool last = l == net.layers - 1;
          interleave(from, from_rows, pairs.get());
          multiply(weights.of(l), (last ? rows16(rows) : rows32(rows)) / 16, from_rows / 32, pairs.get(), sums.get());
          if (last) break;
          narrow_rows(sums.get(), rows32(rows), nullptr, to);
          from = to, to += rows32(rows) * BLOCK;
        }
        store_block(sums.get(), outs, n, begin + b * BLOCK, y);
      }
    }
  }
}

// What a thread needs on the way back.
struct Back {
  Halves input, slope, next, pairs, turned;
  mlp::Buffer sums, gradient;
  std::vector<size_t> turned_at, gradient_at; // of the layers
  size_t turned_pitch = 0, gradient_size = 0;
  explicit Back(const Net &net) {
    const int widest = rows32(net.widest());
    for (int l = 0; l < net.layers; l++) {
      turned_at.push_back(turned_pitch), turned_pitch += rows16(net.widths[l + 1]) * BLOCK;
      gradient_at.push_back(gradient_size), gradient_size += (size_t)rows16(net.widths[l]) * rows16(net.widths[l + 1]);
    }
    input = halves((size_t)GROUP * rows32(net.widths[0]) * BLOCK);
    slope = halves((size_t)GROUP * rows32(net.widths[net.layers]) * BLOCK);
    next = halves((size_t)widest * BLOCK), pairs = halves((size_t)widest * BLOCK);
    turned = halves(GROUP * turned_pitch);
    sums = mlp::buffer((size_t)widest * BLOCK), gradient = mlp::buffer(gradient_size);
  }
};

// The slopes of one block: turned for the weights' gradients of every layer, and those of x. `kept` ends with the last
// hidden layer.
static inline void block_backward(const Net &net, const Packed &weights, Back &back, int b, const Half *kept_end,
                                  int64_t n, int64_t p, float *d_x) {
  const Half *slope = back.slope.get() + (size_t)b * rows32(net.widths[net.layers]) * BLOCK, *kept = kept_end;
  for (int l = net.layers - 1; l >= 0; l--) {
    const int outs = net.widths[l + 1], ins = net.widths[l];
    turn(slope, rows16(outs), back.turned.get() + b * back.turned_pitch + back.turned_at[l]);
    if (l == 0 && !d_x) return;
    interleave(slope, rows32(outs), back.pairs.get());
    multiply(weights.of(l), (l ? rows32(ins) : rows16(ins)) / 16, rows32(outs) / 32, back.pairs.get(), back.sums.get());
    if (l == 0) return store_block(back.sums.get(), ins, n, p, d_x);
    kept -= rows32(ins) * BLOCK;
    narrow_rows(back.sums.get(), rows32(ins), kept, back.next.get());
    slope = back.next.get();
  }
}

// As mlp::backward.
static void backward(const Net &net, const float *x, const Half *hidden, const float *d_y, int64_t n, float *d_x,
                     float *d_weights) {
  const int64_t groups = groups_of(n);
  const int chunks = (int)std::max<int64_t>(1, std::min<int64_t>(MAX_CHUNKS, groups / GROUPS_A_CHUNK));
  const int count = net.weight_count(), kept = kept_rows(net);
  const Packed weights(net, true);
  std::vector<float> partial((size_t)chunks * count);
#pragma omp parallel num_threads(threads)
  {
    Tiles tiles;
    Back back(net);
#pragma omp for schedule(dynamic, 1)
    for (int chunk = 0; chunk < chunks; chunk++) {
      std::fill(back.gradient.get(), back.gradient.get() + back.gradient_size, 0.0f);
      for (int64_t group = groups * chunk / chunks; group < groups * (chunk + 1) / chunks; group++) {
        const int64_t begin = group * GROUP * BLOCK;
        const int blocks = blocks_of(n, group);
        const Half *of_group = hidden + (size_t)group * GROUP * kept * BLOCK;
        load_blocks(x, net.widths[0], n, begin, blocks, back.input.get());
        load_blocks(d_y, net.widths[net.layers], n, begin, blocks, back.slope.get());
        for (int b = 0; b < blocks; b++)
          block_backward(net, weights, back, b, of_group + (size_t)(b + 1) * kept * BLOCK, n, begin + b * BLOCK, d_x);
        const Half *in = back.input.get();
        size_t in_pitch = (size_t)rows32(net.widths[0]) * BLOCK;
        for (int l = 0; l < net.layers; l++) {
          accumulate(in, in_pitch, back.turned.get() + back.turned_at[l], back.turned_pitch, blocks,
                     rows16(net.widths[l]) / 16, rows16(net.widths[l + 1]) / 16, back.gradient.get() + back.gradient_at[l]);
          in = l ? in + rows32(net.widths[l]) * BLOCK : of_group, in_pitch = (size_t)kept * BLOCK;
        }
      }
      float *to = partial.data() + (size_t)chunk * count;
      for (int l = 0; l < net.layers; l++)
        for (int o = 0; o < net.widths[l + 1]; o++)
          for (int i = 0; i < net.widths[l]; i++)
            *to++ = back.gradient[back.gradient_at[l] + (size_t)i * rows16(net.widths[l + 1]) + o];
    }
  }
  for (int k = 0; k < count; k++) {
    float sum = 0;
    for (int chunk = 0; chunk < chunks; chunk++) sum += partial[(size_t)chunk * count + k];
    d_weights[k] = sum;
  }
}

} // namespace amx
#endif
