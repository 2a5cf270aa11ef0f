// The cost of a slanted patch: 1 - NCC with bilateral weights (Schoenberger et al. 2016, section 3; ACMM's window).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "geometry.h"

namespace stereo {

constexpr int RADIUS = 5, STEP = 2, SAMPLES = 36;  // an 11 x 11 window, every second pixel
#if defined(__AVX2__)
constexpr int PADDED = 40;  // whole vectors; samples beyond SAMPLES weigh nothing
#else
constexpr int PADDED = SAMPLES;
#endif
constexpr float WORST_COST = 2.f;  // of a patch that is not comparable: outside the picture, or without texture
constexpr float SPATIAL_SIGMA = 5.f;

// What depends on the window alone.
struct Window {
  alignas(64) float dx[PADDED], dy[PADDED], spatial[PADDED];
  float colour[256];  // weight of a difference in grey values

  explicit Window(float colour_sigma) {
    std::fill(dx, dx + PADDED, 0.f);
    std::fill(dy, dy + PADDED, 0.f);
    std::fill(spatial, spatial + PADDED, 0.f);
    int k = 0;
    for (int j = -RADIUS; j <= RADIUS; j += STEP)
      for (int i = -RADIUS; i <= RADIUS; i += STEP, ++k) {
        dx[k] = static_cast<float>(i);
        dy[k] = static_cast<float>(j);
        spatial[k] = std::exp(-(i * i + j * j) / (2 * SPATIAL_SIGMA * SPATIAL_SIGMA));
      }
    for (int d = 0; d < 256; ++d) colour[d] = std::exp(-d / colour_sigma);
  }
};

// The reference photo's samples around one pixel.
struct Patch {
  alignas(64) float weight[PADDED];    // sum to one
  alignas(64) float weighted[PADDED];  // weight * (grey value - mean)
  float mean, variance;                // grey values 0 .. 255
};

// Fills `patch`; samples outside the picture or the mask weigh nothing. The mask may be null.
inline void make_patch(const uint32_t* quads, const uint8_t* mask, int width, int height, int x, int y,
                       const Window& window, Patch& patch) {
  float values[PADDED] = {}, sum = 0, mean = 0;
  const int centre = static_cast<int>(quads[y * width + x] & 255u);
  std::fill(patch.weight, patch.weight + PADDED, 0.f);
  std::fill(patch.weighted, patch.weighted + PADDED, 0.f);
  int k = 0;
  for (int j = y - RADIUS; j <= y + RADIUS; j += STEP)
    for (int i = x - RADIUS; i <= x + RADIUS; i += STEP, ++k) {
      if (i < 0 || j < 0 || i >= width || j >= height || (mask && !mask[j * width + i])) continue;
      const int value = static_cast<int>(quads[j * width + i] & 255u);
      values[k] = static_cast<float>(value);
      patch.weight[k] = window.spatial[k] * window.colour[std::abs(value - centre)];
      sum += patch.weight[k];
      mean += patch.weight[k] * values[k];
    }
  // the window's even offsets leave the centre out, so that all samples may be masked
  const float scale = sum > 0 ? 1.f / sum : 0.f;
  patch.mean = mean * scale;
  patch.variance = 0;
  for (int i = 0; i < SAMPLES; ++i) {
    const float off = values[i] - patch.mean;
    patch.weight[i] *= scale;
    patch.weighted[i] = patch.weight[i] * off;
    patch.variance += patch.weighted[i] * off;
  }
}

// Whether the whole window lies before the source camera and inside its picture. c: the centre through h.
inline bool window_inside(const float* h, const float* c, int width, int height) {
  static const float sx[4] = {-RADIUS, RADIUS, -RADIUS, RADIUS}, sy[4] = {-RADIUS, -RADIUS, RADIUS, RADIUS};
  const float right = static_cast<float>(width - 1), bottom = static_cast<float>(height - 1);
  bool inside = true;
  for (int i = 0; i < 4; ++i) {
    const float u = c[0] + h[0] * sx[i] + h[1] * sy[i], v = c[1] + h[3] * sx[i] + h[4] * sy[i];
    const float z = c[2] + h[6] * sx[i] + h[7] * sy[i];
    inside &= z > 0 && u >= 0 && v >= 0 && u <= right * z && v <= bottom * z;
  }
  return inside;
}

// quad[k] = quads[at[k]]: one gather makes one bilinear sample. By hand, as compilers differ in when they gather.
inline void gather(const uint32_t* quads, const int32_t* at, int32_t* quad) {
#if defined(__AVX2__)
  for (int k = 0; k < 32; k += 8) {
    const __m256i index = _mm256_load_si256(reinterpret_cast<const __m256i*>(at + k));
    const __m256i found = _mm256_i32gather_epi32(reinterpret_cast<const int*>(quads), index, 4);
    _mm256_store_si256(reinterpret_cast<__m256i*>(quad + k), found);
  }
  // a gather costs what its lanes do: none for the padding
  const __m128i last = _mm_load_si128(reinterpret_cast<const __m128i*>(at + 32));
  const __m128i found = _mm_i32gather_epi32(reinterpret_cast<const int*>(quads), last, 4);
  _mm256_store_si256(reinterpret_cast<__m256i*>(quad + 32), _mm256_zextsi128_si256(found));
#else
  for (int k = 0; k < PADDED; ++k) quad[k] = static_cast<int32_t>(quads[at[k]]);
#endif
}

// 1 - NCC in [0, 2] between the reference's patch at (x, y) and the source's picture of it through homography h [9].
inline float patch_cost(const Patch& patch, const Window& window, const Source& source, const float* h, float x,
                        float y, float min_variance) {
  const float c[3] = {h[0] * x + h[1] * y + h[2], h[3] * x + h[4] * y + h[5], h[6] * x + h[7] * y + h[8]};
  if (!window_inside(h, c, source.width, source.height)) return WORST_COST;
  const float h0 = h[0], h1 = h[1], h3 = h[3], h4 = h[4], h6 = h[6], h7 = h[7], c0 = c[0], c1 = c[1], c2 = c[2];
  alignas(64) int32_t at[PADDED], quad[PADDED];
  alignas(64) float along[PADDED], down[PADDED];
  const int width = source.width;
#pragma omp simd
  for (int k = 0; k < PADDED; ++k) {
    const float dx = window.dx[k], dy = window.dy[k], inverse = 1.f / (c2 + h6 * dx + h7 * dy);
    const float u = (c0 + h0 * dx + h1 * dy) * inverse, v = (c1 + h3 * dx + h4 * dy) * inverse;
    const int column = static_cast<int>(u), row = static_cast<int>(v);
    along[k] = u - static_cast<float>(column);
    down[k] = v - static_cast<float>(row);
    at[k] = row * width + column;
  }
  gather(source.quads, at, quad);
  float mean = 0, square = 0, product = 0;
#pragma omp simd reduction(+ : mean, square, product)
  for (int k = 0; k < PADDED; ++k) {
    const float v00 = static_cast<float>(quad[k] & 255), v01 = static_cast<float>((quad[k] >> 8) & 255);
    const float v10 = static_cast<float>((quad[k] >> 16) & 255), v11 = static_cast<float>((quad[k] >> 24) & 255);
    const float upper = v00 + along[k] * (v01 - v00), lower = v10 + along[k] * (v11 - v10);
    // around the reference's mean: sums of squares keep their digits in float32
    const float value = upper + down[k] * (lower - upper) - patch.mean;
    mean += patch.weight[k] * value;
    square += patch.weight[k] * value * value;
    product += patch.weighted[k] * value;
  }
  const float variance = square - mean * mean;
  if (!(variance >= min_variance)) return WORST_COST;
  return 1.f - std::max(-1.f, std::min(1.f, product / std::sqrt(variance * patch.variance)));
}

}  // namespace stereo
