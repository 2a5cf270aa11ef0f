// Ray marching through an occupancy grid, and volume rendering of packed samples (Max 1995; NeRF, eq. 3).
// Packed: the samples of ray r are those from offsets[r] to offsets[r + 1], front to back.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace volume {

constexpr int64_t RAYS_A_TASK = 64;

// Occupancy of cascades of cubes [-2^k, 2^k]^3, `side`^3 cells each, index (k, z, y, x); and of blocks of 4^3 cells.
struct Grid {
  const uint8_t *cells, *blocks;
  int cascades, side;

  static inline int cell(float x, float inverse_extent, int side) {
    return std::min(std::max((int)((x * inverse_extent + 1.0f) * (0.5f * side)), 0), side - 1);
  }
  inline int cascade_of(const float p[3]) const {
    const float size = std::max(std::max(std::fabs(p[0]), std::fabs(p[1])), std::fabs(p[2]));
    int k = 0;
    while (k + 1 < cascades && size > (float)(1 << k)) k++;
    return k;
  }
  static inline bool looked_up(const uint8_t *grid, int k, int side, const int c[3]) {
    return grid[(((size_t)k * side + c[2]) * side + c[1]) * side + c[0]];
  }
};

struct Ray {
  const float *o, *d;
  float inverse[3];
  Ray(const float *origin, const float *direction) : o(origin), d(direction) {
    for (int a = 0; a < 3; a++) inverse[a] = 1.0f / (std::fabs(d[a]) < 1e-9f ? 1e-9f : d[a]);
  }
  inline void point(float t, float p[3]) const {
    for (int a = 0; a < 3; a++) p[a] = o[a] + t * d[a];
  }
  // Where the ray leaves the cell `c` of a grid of `side` cells over [-extent, extent].
  inline float leaves(const int c[3], int side, float extent) const {
    float t = std::numeric_limits<float>::infinity();
    for (int a = 0; a < 3; a++) {
      const float wall = ((c[a] + (d[a] > 0)) * (2.0f / side) - 1.0f) * extent;
      t = std::min(t, (wall - o[a]) * inverse[a]);
    }
    return t;
  }
};

// The next step number that may lie in an occupied cell: k itself if its sample does.
static inline bool occupied_or_skip(const Grid &grid, const Ray &ray, float t, float t_in, float jitter, float step,
                                    int64_t &k) {
  float p[3];
  ray.point(t, p);
  const int cascade = grid.cascade_of(p), coarse_side = grid.side / 4;
  const float extent = (float)(1 << cascade), inverse_extent = 1.0f / extent;
  int fine[3], coarse[3];
  for (int a = 0; a < 3; a++) fine[a] = Grid::cell(p[a], inverse_extent, grid.side), coarse[a] = fine[a] / 4;
  const bool block = Grid::looked_up(grid.blocks, cascade, coarse_side, coarse);
  if (block && Grid::looked_up(grid.cells, cascade, grid.side, fine)) return true;
  // A block may reach into the next smaller cascade where its side is no multiple of that one's; a cell never does.
  const bool by_cell = block || (cascade > 0 && grid.side % 16 != 0);
  const float exit = by_cell ? ray.leaves(fine, grid.side, extent) : ray.leaves(coarse, coarse_side, extent);
  // One step back from the wall: rounding must not carry the ray past the first sample behind it.
  const float ahead = (exit - t_in) / step - jitter;
  k = std::max(k + 1, (int64_t)std::floor(std::min(ahead, 1e9f)));
  return false;
}

// t: room for rays * most samples; the samples' distances are packed at its front. Returns their number.
static int64_t march(const float *o, const float *d, const float *t_in, const float *t_out, const float *jitter,
                     int64_t rays, float step, const Grid &grid, int64_t most, float *t, int64_t *counts) {
  const int64_t tasks = (rays + RAYS_A_TASK - 1) / RAYS_A_TASK;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t task = 0; task < tasks; task++) {
    float *to = t + task * RAYS_A_TASK * most;
    for (int64_t r = task * RAYS_A_TASK; r < std::min(rays, (task + 1) * RAYS_A_TASK); r++) {
      const Ray ray(o + 3 * r, d + 3 * r);
      const float *begin = to;
      for (int64_t k = 0; k < most;) {
        const float at = t_in[r] + ((float)k + jitter[r]) * step;
        if (!(at < t_out[r])) break;
        if (!grid.cells || occupied_or_skip(grid, ray, at, t_in[r], jitter[r], step, k)) *to++ = at, k++;
      }
      counts[r] = to - begin;
    }
  }
  int64_t total = 0;
  for (int64_t task = 0; task < tasks; task++) {
    int64_t own = 0;
    for (int64_t r = task * RAYS_A_TASK; r < std::min(rays, (task + 1) * RAYS_A_TASK); r++) own += counts[r];
    std::memmove(t + total, t + task * RAYS_A_TASK * most, own * sizeof(float));
    total += own;
  }
  return total;
}

// How many leading samples of each ray have a transmittance in front of them above the threshold.
static void visible_counts(const float *density, const int64_t *offsets, int64_t rays, float step, float threshold,
                           int64_t *counts) {
  const float most = -std::log(threshold);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rays; r++) {
    float depth = 0;
    int64_t i = offsets[r];
    for (; i < offsets[r + 1] && depth < most; i++) depth += density[i] * step;
    counts[r] = i - offsets[r];
  }
}

// Sums over a ray's samples in front of the present one.
struct Running {
  double depth = 0, weight = 0, moment = 0; // optical depth, sum of w, sum of w t
};

static void composite(const float *density, const float *rgb, const float *t, const int64_t *offsets, int64_t rays,
                      int64_t n, float step, float *light, float *through, float *spread) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
  for (int64_t r = 0; r < rays; r++) {
    Running front;
    double sum[3] = {0, 0, 0}, pairs = 0;
    for (int64_t i = offsets[r]; i < offsets[r + 1]; i++) {
      const float tau = density[i] * step;
      const double w = (double)(std::exp((float)-front.depth) * -std::expm1(-tau));
      for (int c = 0; c < 3; c++) sum[c] += w * rgb[c * n + i];
      pairs += 2.0 * w * (t[i] * front.weight - front.moment) + w * w * (step / 3.0);
      front.depth += tau, front.weight += w, front.moment += w * t[i];
    }
    for (int c = 0; c < 3; c++) light[3 * r + c] = (float)sum[c];
    through[r] = (float)std::exp(-front.depth);
    spread[r] = (float)pairs;
  }
}

// d_spread may be null. d tau_i = g_i T_i exp(-tau_i) - sum_{j > i} w_j g_j - through d_through, g_i = d loss / d w_i.
static void composite_backward(const float *density, const float *rgb, const float *t, const int64_t *offsets,
                               int64_t rays, int64_t n, float step, const float *d_light, const float *d_through,
                               const float *d_spread, float *d_density, float *d_rgb) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
  for (int64_t r = 0; r < rays; r++) {
    Running whole;
    for (int64_t i = offsets[r]; i < offsets[r + 1]; i++) { // weights are kept where the result will go
      const float tau = density[i] * step;
      const float w = std::exp((float)-whole.depth) * -std::expm1(-tau);
      d_density[i] = w;
      whole.depth += tau, whole.weight += w, whole.moment += (double)w * t[i];
    }
    const double behind_all = std::exp(-whole.depth) * d_through[r];
    Running after; // depth unused
    double depth = whole.depth, later = 0;
    for (int64_t i = offsets[r + 1] - 1; i >= offsets[r]; i--) {
      const float w = d_density[i], tau = density[i] * step;
      double g = 0;
      for (int c = 0; c < 3; c++) {
        g += (double)d_light[3 * r + c] * rgb[c * n + i];
        d_rgb[c * n + i] = d_light[3 * r + c] * w;
      }
      if (d_spread) {
        const double front_weight = whole.weight - after.weight - w, front_moment = whole.moment - after.moment - w * t[i];
        g += d_spread[r] * (2.0 * (t[i] * (front_weight - after.weight) - front_moment + after.moment) + w * (step * 2.0 / 3.0));
        after.weight += w, after.moment += (double)w * t[i];
      }
      depth -= tau;
      d_density[i] = (float)((g * std::exp((float)-(depth + tau)) - later - behind_all) * step);
      later += w * g;
    }
  }
}

} // namespace volume
