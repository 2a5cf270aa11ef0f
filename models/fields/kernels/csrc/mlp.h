// Small fully connected networks without biases: ReLU between layers, linear output.
// Lanes are points, weights are broadcast. A tile of points passes all layers while its activations stay in the cache;
// the hidden ones are kept for the backward pass. Reductions over points are split in a way that depends on the number
// of points alone, so equal inputs give equal bits whatever the number of threads.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

namespace mlp {

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE = 512;
constexpr int OUT_ROWS = 6, OUT_VECTORS = 4; // accumulators of the layer product: 24 of 32 registers
constexpr int GRAD_ROWS = 4, GRAD_COLUMNS = 6;
#elif defined(__AVX2__)
constexpr int LANES = 8, TILE = 240;
constexpr int OUT_ROWS = 4, OUT_VECTORS = 3; // 12 of 16 registers
constexpr int GRAD_ROWS = 3, GRAD_COLUMNS = 3;
#else
constexpr int LANES = 4, TILE = 240; // 128-bit vectors, 32 registers (NEON)
constexpr int OUT_ROWS = 4, OUT_VECTORS = 3;
constexpr int GRAD_ROWS = 3, GRAD_COLUMNS = 3;
#endif
constexpr int VECTORS = TILE / LANES;
// Floats from row to row: an odd number of cache lines, else the rows of a tile compete for a few sets of the cache.
constexpr int PITCH = TILE + (TILE * 4 / 64 % 2 == 0 ? 16 : 0);
constexpr int TILES_A_CHUNK = 8, MAX_CHUNKS = 64;
constexpr int MAX_LAYERS = 16;
typedef float Vector __attribute__((vector_size(LANES * 4), aligned(LANES * 4)));

struct Net {
  int layers;
  const int32_t *widths;       // layers + 1 of them
  const float *const *weights; // [after, before] each
  int hidden_rows() const {
    int rows = 0;
    for (int l = 1; l < layers; l++) rows += widths[l];
    return rows;
  }
  int weight_count() const {
    int n = 0;
    for (int l = 0; l < layers; l++) n += widths[l] * widths[l + 1];
    return n;
  }
  int widest() const { return *std::max_element(widths, widths + layers + 1); }
};

struct FreeAligned {
  void operator()(float *p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float[], FreeAligned>;
static inline Buffer buffer(size_t floats) {
  return Buffer((float *)std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64));
}
static inline Vector at(const float *p) { return *(const Vector *)p; }

// Calls body(integral_constant<R>) for 1 <= r <= MAX.
template <int MAX, class Body> static inline void with_size(int r, Body body) {
  if constexpr (MAX > 0) {
    if (r == MAX) body(std::integral_constant<int, MAX>{});
    else with_size<MAX - 1>(r, body);
  }
}

// out[o][p] = sum_i weight[o * out_stride + i * in_stride] in[i][p]; in, out and gate are [rows][PITCH].
// Where there is a gate, what it is not positive for becomes 0; `relu` gates the sums by themselves.
static inline void multiply(const float *weight, int out_stride, int in_stride, int outs, int ins, const float *in,
                            float *out, bool relu, const float *gate) {
  for (int v = 0; v < VECTORS; v += OUT_VECTORS)
    for (int o = 0; o < outs; o += OUT_ROWS)
      with_size<OUT_ROWS>(std::min(OUT_ROWS, outs - o), [&](auto size) {
        constexpr int R = decltype(size)::value;
        Vector sum[R][OUT_VECTORS] = {};
        const float *w = weight + o * out_stride, *x = in + v * LANES;
        for (int i = 0; i < ins; i++, w += in_stride, x += PITCH) {
          Vector value[OUT_VECTORS];
          for (int q = 0; q < OUT_VECTORS; q++) value[q] = at(x + q * LANES);
          for (int r = 0; r < R; r++)
            for (int q = 0; q < OUT_VECTORS; q++) sum[r][q] += w[r * out_stride] * value[q];
        }
        for (int r = 0; r < R; r++)
          for (int q = 0; q < OUT_VECTORS; q++) {
            const int place = (o + r) * PITCH + (v + q) * LANES;
            const Vector s = sum[r][q], open = relu ? s : gate ? at(gate + place) : Vector{} + 1.0f;
            *(Vector *)(out + place) = open > 0 ? s : Vector{};
          }
      });
}

// gradient[o][i] += d[o][p] in[i][p] over the tile, lane by lane: the lanes are added up at the end of a chunk.
// The first tile of a chunk overwrites what is there.
static inline void accumulate(const float *d, const float *in, int outs, int ins, bool first, Vector *gradient) {
  for (int i = 0; i < ins; i += GRAD_COLUMNS)
    for (int o = 0; o < outs; o += GRAD_ROWS)
      with_size<GRAD_ROWS>(std::min(GRAD_ROWS, outs - o), [&](auto rows) {
        with_size<GRAD_COLUMNS>(std::min(GRAD_COLUMNS, ins - i), [&](auto columns) {
          constexpr int R = decltype(rows)::value, C = decltype(columns)::value;
          Vector sum[R][C] = {};
          for (int v = 0; v < VECTORS; v++) {
            Vector slope[R];
            for (int r = 0; r < R; r++) slope[r] = at(d + (o + r) * PITCH + v * LANES);
            for (int c = 0; c < C; c++) {
              const Vector value = at(in + (i + c) * PITCH + v * LANES);
              for (int r = 0; r < R; r++) sum[r][c] += slope[r] * value;
            }
          }
          for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) {
              Vector &total = gradient[(o + r) * ins + i + c];
              total = first ? sum[r][c] : total + sum[r][c];
            }
        });
      });
}

// Rows of [rows, n] into a tile, zeros behind the last point, and back. Rows lie in pages far apart, which the processor
// does not foresee: the next tile is asked for while this one is computed.
static inline void load_tile(const float *from, int rows, int64_t n, int64_t begin, int points, float *tile) {
  for (int r = 0; r < rows; r++) {
    const float *row = from + r * n + begin;
    std::memcpy(tile + r * PITCH, row, points * sizeof(float));
    for (int64_t k = TILE; k < 2 * TILE && begin + k < n; k += 16) __builtin_prefetch(row + k, 0, 2);
    if (points < TILE) std::memset(tile + r * PITCH + points, 0, (TILE - points) * sizeof(float));
  }
}
static inline void store_tile(const float *tile, int rows, int64_t n, int64_t begin, int points, float *to) {
  for (int r = 0; r < rows; r++) std::memcpy(to + r * n + begin, tile + r * PITCH, points * sizeof(float));
}

// x [widths[0], n] -> y [widths[layers], n]; hidden: [tiles][hidden_rows][PITCH], or null.
static void forward(const Net &net, const float *x, int64_t n, float *y, float *hidden) {
  const int64_t tiles = (n + TILE - 1) / TILE;
  const int hidden_rows = net.hidden_rows(), outs = net.widths[net.layers];
#pragma omp parallel num_threads(threads)
  {
    Buffer input = buffer(net.widths[0] * PITCH), own = buffer(std::max(hidden_rows, 1) * PITCH), out = buffer(outs * PITCH);
#pragma omp for schedule(dynamic, 4)
    for (int64_t t = 0; t < tiles; t++) {
      const int points = (int)std::min<int64_t>(TILE, n - t * TILE);
      load_tile(x, net.widths[0], n, t * TILE, points, input.get());
      const float *from = input.get();
      float *to = hidden ? hidden + t * hidden_rows * PITCH : own.get();
      for (int l = 0; l < net.layers; l++) {
        const bool last = l == net.layers - 1;
        float *target = last ? out.get() : to;
        multiply(net.weights[l], net.widths[l], 1, net.widths[l + 1], net.widths[l], from, target, !last, nullptr);
        from = target, to += net.widths[l + 1] * PITCH;
      }
      store_tile(out.get(), outs, n, t * TILE, points, y);
    }
  }
}

// Sums the lanes of a chunk's gradients.
static inline void add_lanes(const Vector *lanes, int count, float *out) {
  for (int k = 0; k < count; k++) {
    alignas(64) float part[LANES];
    *(Vector *)part = lanes[k];
    for (int half = LANES / 2; half > 0; half /= 2)
      for (int j = 0; j < half; j++) part[j] += part[j + half];
    out[k] = part[0];
  }
}

// d_y [widths[layers], n] -> d_x [widths[0], n] (or null) and d_weights, all layers in one row, overwritten.
static void backward(const Net &net, const float *x, const float *hidden, const float *d_y, int64_t n, float *d_x,
                     float *d_weights) {
  const int64_t tiles = (n + TILE - 1) / TILE;
  const int chunks = (int)std::max<int64_t>(1, std::min<int64_t>(MAX_CHUNKS, tiles / TILES_A_CHUNK));
  const int hidden_rows = net.hidden_rows(), count = net.weight_count(), widest = net.widest();
  std::vector<float> partial((size_t)chunks * count);
#pragma omp parallel num_threads(threads)
  {
    Buffer input = buffer(net.widths[0] * PITCH), slope = buffer(widest * PITCH), next = buffer(widest * PITCH),
           sums = buffer((size_t)count * LANES);
#pragma omp for schedule(dynamic, 1)
    for (int chunk = 0; chunk < chunks; chunk++) {
      const int64_t first = tiles * chunk / chunks;
      for (int64_t t = first; t < tiles * (chunk + 1) / chunks; t++) {
        const int points = (int)std::min<int64_t>(TILE, n - t * TILE);
        load_tile(x, net.widths[0], n, t * TILE, points, input.get());
        load_tile(d_y, net.widths[net.layers], n, t * TILE, points, slope.get());
        const float *kept = hidden + (t + 1) * hidden_rows * PITCH; // the layers' outputs, last hidden one first
        Vector *gradient = (Vector *)sums.get() + count;
        for (int l = net.layers - 1; l >= 0; l--) {
          const int outs = net.widths[l + 1], ins = net.widths[l];
          kept -= l > 0 ? ins * PITCH : 0;
          const float *in = l > 0 ? kept : input.get();
          gradient -= outs * ins;
          accumulate(slope.get(), in, outs, ins, t == first, gradient);
          if (l == 0 && !d_x) break;
          multiply(net.weights[l], 1, ins, ins, outs, slope.get(), next.get(), false, l > 0 ? in : nullptr);
          std::swap(slope, next);
        }
        if (d_x) store_tile(slope.get(), net.widths[0], n, t * TILE, points, d_x);
      }
      add_lanes((const Vector *)sums.get(), count, partial.data() + (size_t)chunk * count);
    }
  }
  for (int k = 0; k < count; k++) {
    float sum = 0;
    for (int chunk = 0; chunk < chunks; chunk++) sum += partial[(size_t)chunk * count + k];
    d_weights[k] = sum;
  }
}

} // namespace mlp
