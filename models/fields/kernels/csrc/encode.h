// Multiresolution hash encoding (Instant-NGP, section 3): forward, and backward to the table and to the position.
// Sixteen points at a time: indices and weights vectorise on any instruction set; the gathers have an AVX-512 form.
// Level by level, because a level's table then stays in the cache while thousands of points pass.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace encode {

constexpr int BLOCK = 16;         // points handled together
constexpr int64_t STRETCH = 4096; // points of one parallel task
constexpr uint32_t PRIME_Y = 2654435761u, PRIME_Z = 805459861u;

// Mirrors a row of an int32 [L, 4] tensor: see cpu.py.
struct Level {
  int32_t resolution;
  uint32_t offset, size;
  int32_t dense;
};

// The eight lattice points around each of 16 points (corner = 4 z + 2 y + x), their weights, the weights along the axes.
struct Corners {
  alignas(64) uint32_t entry[8][BLOCK];
  alignas(64) float weight[8][BLOCK];
  alignas(64) float upper[3][BLOCK]; // weight of the upper end along x, y, z
};

struct Points {
  alignas(64) float axis[3][BLOCK];
};

// Points [first, first + count) as structure of arrays; the last one repeated where count < BLOCK.
static inline Points load_points(const float *x, int64_t first, int count) {
  Points p;
  for (int i = 0; i < BLOCK; i++) {
    const float *from = x + 3 * (first + std::min(i, count - 1));
    for (int a = 0; a < 3; a++) p.axis[a][i] = from[a];
  }
  return p;
}

// `cell` is clamped as an integer: NaN and coordinates outside [0, 1] stay inside the table.
template <bool DENSE> static inline void find_corners(const Points &p, const Level &level, Corners &out) {
  const float scale = (float)level.resolution;
  const int32_t last = level.resolution - 1;
  const uint32_t row = level.resolution + 1, slab = row * row, mask = level.size - 1, offset = level.offset;
#pragma GCC ivdep
  for (int i = 0; i < BLOCK; i++) {
    const float px = p.axis[0][i] * scale, py = p.axis[1][i] * scale, pz = p.axis[2][i] * scale;
    const int32_t ix = std::max(std::min((int32_t)px, last), 0), iy = std::max(std::min((int32_t)py, last), 0),
                  iz = std::max(std::min((int32_t)pz, last), 0);
    const float fx = px - ix, fy = py - iy, fz = pz - iz, gx = 1 - fx, gy = 1 - fy, gz = 1 - fz;
    out.upper[0][i] = fx, out.upper[1][i] = fy, out.upper[2][i] = fz;
    const float w00 = gy * gz, w10 = fy * gz, w01 = gy * fz, w11 = fy * fz;
    out.weight[0][i] = gx * w00, out.weight[1][i] = fx * w00, out.weight[2][i] = gx * w10, out.weight[3][i] = fx * w10;
    out.weight[4][i] = gx * w01, out.weight[5][i] = fx * w01, out.weight[6][i] = gx * w11, out.weight[7][i] = fx * w11;
    if (DENSE) {
      const uint32_t base = ix + iy * row + iz * slab + offset;
      out.entry[0][i] = base, out.entry[1][i] = base + 1;
      out.entry[2][i] = base + row, out.entry[3][i] = base + row + 1;
      out.entry[4][i] = base + slab, out.entry[5][i] = base + slab + 1;
      out.entry[6][i] = base + slab + row, out.entry[7][i] = base + slab + row + 1;
    } else {
      const uint32_t x0 = ix, x1 = ix + 1, y0 = iy * PRIME_Y, y1 = y0 + PRIME_Y, z0 = iz * PRIME_Z, z1 = z0 + PRIME_Z;
      const uint32_t a = y0 ^ z0, b = y1 ^ z0, c = y0 ^ z1, d = y1 ^ z1;
      out.entry[0][i] = ((x0 ^ a) & mask) + offset, out.entry[1][i] = ((x1 ^ a) & mask) + offset;
      out.entry[2][i] = ((x0 ^ b) & mask) + offset, out.entry[3][i] = ((x1 ^ b) & mask) + offset;
      out.entry[4][i] = ((x0 ^ c) & mask) + offset, out.entry[5][i] = ((x1 ^ c) & mask) + offset;
      out.entry[6][i] = ((x0 ^ d) & mask) + offset, out.entry[7][i] = ((x1 ^ d) & mask) + offset;
    }
  }
}

static inline void corners_of(const Points &p, const Level &level, Corners &out) {
  if (level.dense) find_corners<true>(p, level, out);
  else find_corners<false>(p, level, out);
}

// out[f][i] = sum of weight * table over the corners.
template <int F> static inline void interpolate(const Corners &c, const float *table, float out[F][BLOCK]) {
  float sum[F][BLOCK] = {};
  for (int k = 0; k < 8; k++)
    for (int i = 0; i < BLOCK; i++)
      for (int f = 0; f < F; f++) sum[f][i] += c.weight[k][i] * table[(size_t)c.entry[k][i] * F + f];
  for (int f = 0; f < F; f++)
    for (int i = 0; i < BLOCK; i++) out[f][i] = sum[f][i];
}

#if defined(__AVX512F__)
// Both features of an entry in one 64-bit gather; even and odd lanes are parted at the end.
template <> inline void interpolate<2>(const Corners &c, const float *table, float out[2][BLOCK]) {
  const __m512i low_pairs = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const __m512i high_pairs = _mm512_add_epi32(low_pairs, _mm512_set1_epi32(8));
  __m512 low = _mm512_setzero_ps(), high = low;
  for (int k = 0; k < 8; k++) {
    const __m512 weight = _mm512_load_ps(c.weight[k]);
    const __m256i *entry = (const __m256i *)c.entry[k];
    const __m512 first = _mm512_castsi512_ps(_mm512_i32gather_epi64(_mm256_load_si256(entry), table, 8));
    const __m512 second = _mm512_castsi512_ps(_mm512_i32gather_epi64(_mm256_load_si256(entry + 1), table, 8));
    low = _mm512_fmadd_ps(_mm512_permutexvar_ps(low_pairs, weight), first, low);
    high = _mm512_fmadd_ps(_mm512_permutexvar_ps(high_pairs, weight), second, high);
  }
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  _mm512_storeu_ps(out[0], _mm512_permutex2var_ps(low, even, high));
  _mm512_storeu_ps(out[1], _mm512_permutex2var_ps(low, odd, high));
}
#elif defined(__AVX2__)
// Four points at a time: one 64-bit gather an index vector, weights doubled to match.
template <> inline void interpolate<2>(const Corners &c, const float *table, float out[2][BLOCK]) {
  for (int q = 0; q < BLOCK; q += 4) {
    __m256 sum = _mm256_setzero_ps();
    for (int k = 0; k < 8; k++) {
      const __m128i entry = _mm_load_si128((const __m128i *)(c.entry[k] + q));
      const __m256 pair = _mm256_castpd_ps(_mm256_i32gather_pd((const double *)table, entry, 8));
      const __m128 w = _mm_load_ps(c.weight[k] + q);
      const __m256 weight = _mm256_set_m128(_mm_unpackhi_ps(w, w), _mm_unpacklo_ps(w, w));
      sum = _mm256_fmadd_ps(weight, pair, sum);
    }
    alignas(32) float both[8];
    _mm256_store_ps(both, sum);
    for (int i = 0; i < 4; i++) out[0][q + i] = both[2 * i], out[1][q + i] = both[2 * i + 1];
  }
}
#endif

template <int F>
static void forward(const float *x, const float *table, const Level *levels, int count, int64_t n, float *out) {
  const int64_t stretches = (n + STRETCH - 1) / STRETCH;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t task = 0; task < stretches * count; task++) {
    const int l = (int)(task / stretches);
    const int64_t begin = task % stretches * STRETCH, end = std::min(n, begin + STRETCH);
    float *rows = out + (int64_t)l * F * n;
    for (int64_t i = begin; i < end; i += BLOCK) {
      const int points = (int)std::min<int64_t>(BLOCK, end - i);
      Corners corners;
      alignas(64) float value[F][BLOCK];
      corners_of(load_points(x, i, points), levels[l], corners);
      interpolate<F>(corners, table, value);
      for (int f = 0; f < F; f++) std::copy(value[f], value[f] + points, rows + f * n + i);
    }
  }
}

// gradient += weight * d_out. One thread owns a level, so there is no race and the order is always the same.
template <int F> static inline void scatter(const Corners &c, bool dense, int k, const float *d, float *gradient) {
#if defined(__SSE2__)
  if constexpr (F == 2) {
    const __m128 both = _mm_setr_ps(d[0], d[1], d[0], d[1]);
    if (dense) { // corners 2 j and 2 j + 1 are neighbours in memory
      for (int j = 0; j < 8; j += 2) {
        float *at = gradient + 2 * (size_t)c.entry[j][k];
        const __m128 w = _mm_setr_ps(c.weight[j][k], c.weight[j][k], c.weight[j + 1][k], c.weight[j + 1][k]);
        _mm_storeu_ps(at, _mm_add_ps(_mm_loadu_ps(at), _mm_mul_ps(w, both)));
      }
    } else {
      for (int j = 0; j < 8; j++) {
        float *at = gradient + 2 * (size_t)c.entry[j][k];
        const __m128 old = _mm_castsi128_ps(_mm_loadl_epi64((__m128i *)at));
        const __m128 sum = _mm_add_ps(old, _mm_mul_ps(_mm_set1_ps(c.weight[j][k]), both));
        _mm_storel_epi64((__m128i *)at, _mm_castps_si128(sum));
      }
    }
    return;
  }
#endif
  for (int j = 0; j < 8; j++) {
    float *at = gradient + F * (size_t)c.entry[j][k];
    for (int f = 0; f < F; f++) at[f] += c.weight[j][k] * d[f];
  }
}

// touched: one byte for every 16 floats of the gradient, set where something was added; may be null.
template <int F>
static void backward_table(const float *x, const Level *levels, int count, int64_t n, const float *d_out,
                           float *gradient, uint8_t *touched) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int reversed = 0; reversed < count; reversed++) { // the finest, slowest levels first
    const int l = count - 1 - reversed;
    const Level &level = levels[l];
    for (int64_t i = 0; i < n; i += BLOCK) {
      const int points = (int)std::min<int64_t>(BLOCK, n - i);
      Corners corners;
      corners_of(load_points(x, i, points), level, corners);
      for (int k = 0; k < points; k++) {
        float d[F];
        bool any = false;
        for (int f = 0; f < F; f++) d[f] = d_out[((int64_t)l * F + f) * n + i + k], any |= d[f] != 0.0f;
        if (!any) continue;
        scatter<F>(corners, level.dense, k, d, gradient);
        if (touched)
          for (int j = 0; j < 8; j++) touched[(size_t)corners.entry[j][k] * F / 16] = 1;
      }
    }
  }
}

// d_x [n, 3] is overwritten: the derivative by position of sum(d_out * out).
template <int F>
static void backward_position(const float *x, const float *table, const Level *levels, int count, int64_t n,
                              const float *d_out, float *d_x) {
  const int64_t blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
  for (int64_t block = 0; block < blocks; block++) {
    const int64_t i = block * BLOCK;
    const int points = (int)std::min<int64_t>(BLOCK, n - i);
    const Points p = load_points(x, i, points);
    float slope[3][BLOCK] = {};
    for (int l = 0; l < count; l++) {
      Corners c;
      corners_of(p, levels[l], c);
      for (int k = 0; k < points; k++) {
        float along[8];
        for (int j = 0; j < 8; j++) {
          const float *entry = table + (size_t)c.entry[j][k] * F;
          along[j] = 0;
          for (int f = 0; f < F; f++) along[j] += entry[f] * d_out[((int64_t)l * F + f) * n + i + k];
        }
        const float fx = c.upper[0][k], fy = c.upper[1][k], fz = c.upper[2][k], gx = 1 - fx, gy = 1 - fy, gz = 1 - fz;
        const float r = (float)levels[l].resolution;
        slope[0][k] += r * (gz * (gy * (along[1] - along[0]) + fy * (along[3] - along[2])) +
                            fz * (gy * (along[5] - along[4]) + fy * (along[7] - along[6])));
        slope[1][k] += r * (gz * (gx * (along[2] - along[0]) + fx * (along[3] - along[1])) +
                            fz * (gx * (along[6] - along[4]) + fx * (along[7] - along[5])));
        slope[2][k] += r * (gy * (gx * (along[4] - along[0]) + fx * (along[5] - along[1])) +
                            fy * (gx * (along[6] - along[2]) + fx * (along[7] - along[3])));
      }
    }
    for (int k = 0; k < points; k++)
      for (int a = 0; a < 3; a++) d_x[3 * (i + k) + a] = slope[a][k];
  }
}

} // namespace encode
