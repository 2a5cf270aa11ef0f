// PatchMatch over one photo: red-black propagation, joint view selection, random refinement (ACMM, Xu and Tao 2019).
//
// A sweep changes the pixels of one colour of a chess board and reads those of the other alone, and random numbers are
// a hash of pixel, sweep and seed: results do not depend on the number of threads or the order of work.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "geometry.h"
#include "patch.h"
#include "random.h"

namespace stereo {

// Laid out like `_Settings` in kernel.py.
struct Settings {
  uint64_t seed;
  int32_t width, height, views, iterations, explore, threads;
  float depth_min, depth_max;     // in world units
  float depth_step, normal_step;  // of the first iteration: share of the depth, share of a unit vector
  float geometric_weight;         // of a pixel of forward-backward error
  float prior_weight, prior_span;  // cost of leaving the given depth by that share, where the patch has no texture
  float colour_sigma, min_variance;
  Pinhole k;
};

constexpr float MOST_ERROR_PX = 3.f;
constexpr float PRIOR_TEXTURE = 25.f;  // variance in squared grey values at which the given depth counts 1 / e
constexpr float LEAST_COSINE = 0.05f;  // of the angle between a plane's normal and the ray
constexpr int CANDIDATES = 8;

class Sweep {
 public:
  Sweep(const Settings& settings, const uint32_t* quads, const uint8_t* mask, const Source* sources,
        const float* prior)
      : set_(settings), quads_(quads), mask_(mask), sources_(sources), prior_(prior), window_(settings.colour_sigma),
        planes_(pixels()), costs_(pixels(), unset()), votes_(pixels(), 0) {}

  // A first plane for each pixel: the given one where depth > 0, a random one elsewhere.
  void start(const float* depth, const float* normal) {
    each_pixel([&](int x, int y, int o) {
      Random random(set_.seed, 0, o);
      float ray[3];
      ray_of(set_.k, x, y, ray);
      Plane plane;
      if (depth[o] > 0) {
        std::copy(normal + 3 * o, normal + 3 * o + 3, plane.n);
        face_camera(plane.n, ray);
        plane.d = -depth[o] * dot(plane.n, ray);
      } else {
        plane = random_plane(random, ray);
      }
      // given planes may be too steep for this pixel
      if (-dot(plane.n, ray) < LEAST_COSINE) plane = random_plane(random, ray);
      planes_[o] = plane;
      Patch patch;
      make_patch(quads_, mask_, set_.width, set_.height, x, y, window_, patch);
      if (patch.variance < set_.min_variance) return;
      float costs[MOST_VIEWS], weights[MOST_VIEWS];
      view_costs(patch, plane, ray, x, y, nullptr, true, costs);
      best_views(costs, weights);
      costs_[o] = total(patch, plane, ray, o, costs, weights);
      votes_[o] = votes(weights);
    });
  }

  void iterate(int iteration) {
    for (int colour = 0; colour < 2; ++colour)
      each_pixel([&](int x, int y, int o) {
        if (((x + y) & 1) == colour && costs_[o] < unset()) update(x, y, o, iteration);
      });
  }

  // Depth, normal [3] and photometric cost of each pixel; depth 0 where there is nothing to compare.
  void finish(float* depth, float* normal, float* cost) const {
    each_pixel([&](int x, int y, int o) {
      if (costs_[o] >= unset()) return;
      float ray[3], weights[MOST_VIEWS], costs[MOST_VIEWS];
      ray_of(set_.k, x, y, ray);
      Patch patch;
      make_patch(quads_, mask_, set_.width, set_.height, x, y, window_, patch);
      for (int v = 0; v < set_.views; ++v) weights[v] = votes_[o] >> v & 1 ? 1.f : 0.f;
      view_costs(patch, planes_[o], ray, x, y, weights, false, costs);
      cost[o] = mean(costs, weights);
      depth[o] = depth_at(planes_[o], ray);
      std::copy(planes_[o].n, planes_[o].n + 3, normal + 3 * o);
    });
  }

 private:
  static float unset() { return 1e9f; }
  size_t pixels() const { return static_cast<size_t>(set_.width) * set_.height; }

  template <class Work>
  void each_pixel(Work work) const {
#pragma omp parallel for schedule(dynamic, 2) num_threads(set_.threads)
    for (int y = 0; y < set_.height; ++y)
      for (int x = 0; x < set_.width; ++x)
        if (const int o = y * set_.width + x; !mask_ || mask_[o]) work(x, y, o);
  }

  Plane random_plane(Random& random, const float* ray) const {
    Plane plane;
    // even in inverse depth: even in the sources' pixels
    const float far = 1.f / set_.depth_max, near = 1.f / set_.depth_min;
    const float z = 1.f / (far + (near - far) * random.uniform());
    for (float& n : plane.n) n = random.symmetric();
    plane.n[2] -= .5f;  // steep planes are rare: few photos see them
    face_camera(plane.n, ray);
    plane.d = -z * dot(plane.n, ray);
    return plane;
  }

  bool possible(const Plane& plane, const float* ray) const {
    if (-dot(plane.n, ray) < LEAST_COSINE) return false;
    const float z = depth_at(plane, ray);
    return z >= set_.depth_min && z <= set_.depth_max;
  }

  // Costs of a plane by view, of those that weigh something (all if `weights` is null).
  void view_costs(const Patch& patch, const Plane& plane, const float* ray, int x, int y, const float* weights,
                  bool geometric, float* costs) const {
    const float z = depth_at(plane, ray);
    for (int v = 0; v < set_.views; ++v) {
      costs[v] = WORST_COST;
      if (weights && weights[v] == 0) continue;
      float h[9];
      homography(set_.k, sources_[v], plane, h);
      costs[v] = patch_cost(patch, window_, sources_[v], h, x, y, set_.min_variance);
      if (geometric && set_.geometric_weight > 0 && sources_[v].depth)
        costs[v] += set_.geometric_weight * reprojection_error(set_.k, sources_[v], x, y, ray, z, MOST_ERROR_PX);
    }
  }

  float mean(const float* costs, const float* weights) const {
    float sum = 0, norm = 0;
    for (int v = 0; v < set_.views; ++v)
      if (weights[v] > 0) {
        sum += weights[v] * costs[v];
        norm += weights[v];
      }
    return norm > 0 ? sum / norm : WORST_COST;
  }

  // Mean cost, and what leaving the given depth costs where there is little texture.
  float total(const Patch& patch, const Plane& plane, const float* ray, int o, const float* costs,
              const float* weights) const {
    float cost = mean(costs, weights);
    if (prior_ && prior_[o] > 0) {
      const float off = std::fabs(depth_at(plane, ray) / prior_[o] - 1.f) / set_.prior_span;
      cost += set_.prior_weight * std::exp(-patch.variance / PRIOR_TEXTURE) * std::fmin(1.f, off);
    }
    return cost;
  }

  // The two views of least cost: where nothing else is known.
  void best_views(const float* costs, float* weights) const {
    std::fill(weights, weights + MOST_VIEWS, 0.f);
    for (int k = 0; k < std::min(2, set_.views); ++k) {
      int best = -1;
      for (int v = 0; v < set_.views; ++v)
        if (weights[v] == 0 && (best < 0 || costs[v] < costs[best])) best = v;
      weights[best] = 1.f;
    }
  }

  uint8_t votes(const float* weights) const {
    uint8_t found = 0;
    for (int v = 0; v < set_.views; ++v) found |= weights[v] > 0 ? 1u << v : 0u;
    return found;
  }

  // The plane of least cost in each area: four wedges beside the pixel and, while exploring, four arms further out.
  int candidates(int x, int y, int* found) const {
    static const int along[4][2] = {{0, -1}, {0, 1}, {-1, 0}, {1, 0}};
    int count = 0;
    for (const auto& a : along)
      for (int area = 0; area < (set_.explore ? 2 : 1); ++area) {
        int best = -1;
        auto look = [&](int i, int j) {
          if (i < 0 || j < 0 || i >= set_.width || j >= set_.height) return;
          const int o = j * set_.width + i;
          if (costs_[o] < unset() && (best < 0 || costs_[o] < costs_[best])) best = o;
        };
        // an odd number of steps leads to the other colour
        if (area == 0)
          for (int s = 0; s < 4; ++s)
            for (int side = -1; side <= (s ? 1 : -1); side += 2)
              look(x + a[0] * (s + 1) + a[1] * side * s, y + a[1] * (s + 1) + a[0] * side * s);
        else
          for (int s = 3; s <= 23; s += 2) look(x + a[0] * s, y + a[1] * s);
        if (best >= 0) found[count++] = best;
      }
    return count;
  }

  // Joint view selection: views in which several neighbouring planes match, and which the neighbours chose.
  void weigh_views(const float (*costs)[MOST_VIEWS], int count, int x, int y, int iteration, float* weights) const {
    const float good = .8f * std::exp(-iteration * iteration / 90.f);
    float best = 0;
    for (int v = 0; v < set_.views; ++v) {
      int matches = 0, misses = 0;
      float sum = 0;
      for (int c = 0; c < count; ++c) {
        misses += costs[c][v] > 1.2f;
        if (costs[c][v] < good) {
          ++matches;
          sum += std::exp(-costs[c][v] * costs[c][v] / .18f);
        }
      }
      weights[v] = 0;
      if (misses < 3) weights[v] = matches > 2 ? sum / matches : std::exp(-good * good / .32f) * .5f;
      weights[v] *= neighbours_choice(x, y, v);
      best = std::max(best, weights[v]);
    }
    for (int v = 0; v < set_.views; ++v)
      if (weights[v] < .2f * best) weights[v] = 0;
  }

  float neighbours_choice(int x, int y, int view) const {
    float sum = 0;
    const int at[4][2] = {{x, y - 1}, {x, y + 1}, {x - 1, y}, {x + 1, y}};
    for (const auto& p : at) {
      const bool inside = p[0] >= 0 && p[1] >= 0 && p[0] < set_.width && p[1] < set_.height;
      sum += inside && (votes_[p[1] * set_.width + p[0]] >> view & 1) ? .9f : .1f;
    }
    return sum;
  }

  void update(int x, int y, int o, int iteration) {
    Patch patch;
    make_patch(quads_, mask_, set_.width, set_.height, x, y, window_, patch);
    float ray[3];
    ray_of(set_.k, x, y, ray);
    int from[CANDIDATES], count = 0;
    Plane planes[CANDIDATES + 1];
    float costs[CANDIDATES + 1][MOST_VIEWS], weights[MOST_VIEWS];
    const int found = candidates(x, y, from);
    for (int c = 0; c < found; ++c)
      if (possible(planes_[from[c]], ray)) planes[count++] = planes_[from[c]];
    planes[count++] = planes_[o];
    for (int c = 0; c < count; ++c) view_costs(patch, planes[c], ray, x, y, nullptr, true, costs[c]);
    weigh_views(costs, count, x, y, iteration, weights);
    if (*std::max_element(weights, weights + set_.views) == 0) best_views(costs[count - 1], weights);
    int best = count - 1;
    float least = total(patch, planes[best], ray, o, costs[best], weights);
    for (int c = 0; c < count - 1; ++c)
      if (const float cost = total(patch, planes[c], ray, o, costs[c], weights); cost < least) {
        least = cost;
        best = c;
      }
    planes_[o] = refined(patch, planes[best], ray, x, y, o, iteration, weights, least);
    costs_[o] = least;
    votes_[o] = votes(weights);
  }

  // Random changes of depth, normal and both; a plane out of nothing while exploring.
  Plane refined(const Patch& patch, Plane plane, const float* ray, int x, int y, int o, int iteration,
                const float* weights, float& least) const {
    Random random(set_.seed, iteration + 1, o);
    const float shrink = std::ldexp(1.f, -iteration);
    auto attempt = [&](const Plane& trial) {
      if (!possible(trial, ray)) return;
      float costs[MOST_VIEWS];
      view_costs(patch, trial, ray, x, y, weights, true, costs);
      if (const float cost = total(patch, trial, ray, o, costs, weights); cost < least) {
        least = cost;
        plane = trial;
      }
    };
    auto changed = [&](float depth_step, float normal_step) {
      Plane trial = plane;
      const float z = depth_at(plane, ray) * (1.f + depth_step * random.symmetric());
      if (normal_step > 0) {
        for (float& n : trial.n) n += normal_step * random.symmetric();
        face_camera(trial.n, ray);
      }
      trial.d = -z * dot(trial.n, ray);
      return trial;
    };
    attempt(changed(set_.depth_step * shrink, 0));
    attempt(changed(0, set_.normal_step * shrink));
    attempt(changed(set_.depth_step * shrink, set_.normal_step * shrink));
    attempt(changed(.2f * set_.depth_step * shrink, .2f * set_.normal_step * shrink));
    if (set_.explore) attempt(random_plane(random, ray));
    return plane;
  }

  const Settings& set_;
  const uint32_t* quads_;
  const uint8_t* mask_;
  const Source* sources_;
  const float* prior_;
  const Window window_;
  std::vector<Plane> planes_;
  std::vector<float> costs_;   // of the planes, with all terms
  std::vector<uint8_t> votes_;  // the views that a pixel uses, a bit each
};

}  // namespace stereo
