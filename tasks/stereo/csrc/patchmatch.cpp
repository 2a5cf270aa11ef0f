// Dense stereo of one photo against a few others: the C interface (tasks/stereo/kernel.py).
#include "sweep.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Raised with every change of the interface.
EXPORT int stereo_version() { return 2; }

// Estimate a plane for each pixel of the reference.
//   quads   [height * width] the reference; mask [height * width] or null: pixels of 0 are skipped
//   prior   [height * width] coarse depth or null
//   depth, normal [.. * 3]   in: first planes where depth > 0; out: the result, depth 0 where there is none
//   cost    [height * width] out: 1 - NCC, mean over the views used
// Returns 0, or 1 for more views than there is room for.
EXPORT int patchmatch(const stereo::Settings* settings, const uint32_t* quads, const uint8_t* mask,
                      const stereo::Source* sources, const float* prior, float* depth, float* normal, float* cost) {
  if (settings->views < 1 || settings->views > stereo::MOST_VIEWS) return 1;
  stereo::Sweep sweep(*settings, quads, mask, sources, prior);
  sweep.start(depth, normal);
  for (int i = 0; i < settings->iterations; ++i) sweep.iterate(i);
  const size_t pixels = static_cast<size_t>(settings->width) * settings->height;
  std::fill(depth, depth + pixels, 0.f);
  std::fill(normal, normal + 3 * pixels, 0.f);
  std::fill(cost, cost + pixels, stereo::WORST_COST);
  sweep.finish(depth, normal, cost);
  return 0;
}

// The cost of single patches, for tests and measurements: pixels [count * 2], planes [count * 4], costs [count * views].
EXPORT void patch_costs(const stereo::Settings* settings, const uint32_t* quads, const uint8_t* mask,
                        const stereo::Source* sources, int64_t count, const int32_t* pixels,
                        const stereo::Plane* planes, float* costs) {
  const stereo::Window window(settings->colour_sigma);
  for (int64_t i = 0; i < count; ++i) {
    stereo::Patch patch;
    const int x = pixels[2 * i], y = pixels[2 * i + 1];
    stereo::make_patch(quads, mask, settings->width, settings->height, x, y, window, patch);
    for (int v = 0; v < settings->views; ++v) {
      float h[9];
      stereo::homography(settings->k, sources[v], planes[i], h);
      float& cost = costs[i * settings->views + v];
      cost = stereo::WORST_COST;
      if (patch.variance >= settings->min_variance)
        cost = stereo::patch_cost(patch, window, sources[v], h, x, y, settings->min_variance);
    }
  }
}
