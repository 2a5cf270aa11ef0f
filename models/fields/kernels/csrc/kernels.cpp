// The CPU kernels behind a plain C interface: no Python and no torch headers, so one binary serves every version of both.
// Built for AVX2, for AVX-512 and for AVX-512 with AMX (setup.py); cpu.py chooses one at import. Pointers are to
// contiguous arrays.
#include <cstdint>
#if defined(__linux__)
#include <sys/mman.h>
#endif

// Of every parallel region below. Results do not depend on it.
static int threads = 1;

// clang-format off
#include "encode.h"
#include "mlp.h"
#include "amx.h"
#include "volume.h"
#include "photos.h"
#include "adam.h"
#include "limits.h"
// clang-format on

#define EXPORT extern "C" __attribute__((visibility("default")))
// Calls CALL with the constant F for 1, 2, 4 or 8 features an entry.
#define WITH_FEATURES(features, CALL)                                                                                  \
  switch (features) {                                                                                                  \
  case 1: { constexpr int F = 1; CALL; return 0; }                                                                     \
  case 2: { constexpr int F = 2; CALL; return 0; }                                                                     \
  case 4: { constexpr int F = 4; CALL; return 0; }                                                                     \
  case 8: { constexpr int F = 8; CALL; return 0; }                                                                     \
  default: return 1;                                                                                                   \
  }

EXPORT int digitize_version() { return 5; }
EXPORT int digitize_lanes() { return mlp::LANES; }
EXPORT void set_threads(int count) { threads = count; }
EXPORT int get_threads() { return threads; }

EXPORT int encode_forward(const float *x, const float *table, const encode::Level *levels, int count, int features,
                          int64_t n, float *out) {
  WITH_FEATURES(features, encode::forward<F>(x, table, levels, count, n, out))
}
EXPORT int encode_backward_table(const float *x, const encode::Level *levels, int count, int features, int64_t n,
                                 const float *d_out, float *gradient, uint8_t *touched) {
  WITH_FEATURES(features, encode::backward_table<F>(x, levels, count, n, d_out, gradient, touched))
}
EXPORT int encode_backward_position(const float *x, const float *table, const encode::Level *levels, int count,
                                    int features, int64_t n, const float *d_out, float *d_x) {
  WITH_FEATURES(features, encode::backward_position<F>(x, table, levels, count, n, d_out, d_x))
}

// Whether networks can be computed in bfloat16 (`half` below): on the matrix unit, once the system has given it.
EXPORT int half_networks() {
#ifdef DIGITIZE_AMX
  static const bool ready = amx::prepare();
  return ready;
#else
  return 0;
#endif
}
EXPORT int64_t mlp_hidden_floats(int layers, const int32_t *widths, int64_t n, int half) {
  const mlp::Net net{layers, widths, nullptr};
#ifdef DIGITIZE_AMX
  if (half) return amx::hidden_halves(net, n) / 2;
#endif
  (void)half;
  return (n + mlp::TILE - 1) / mlp::TILE * net.hidden_rows() * mlp::PITCH;
}
EXPORT void mlp_forward(int layers, const int32_t *widths, const float *const *weights, const float *x, int64_t n,
                        float *y, float *hidden, int half) {
  const mlp::Net net{layers, widths, weights};
#ifdef DIGITIZE_AMX
  if (half) return amx::forward(net, x, n, y, (amx::Half *)hidden);
#endif
  (void)half;
  mlp::forward(net, x, n, y, hidden);
}
EXPORT void mlp_backward(int layers, const int32_t *widths, const float *const *weights, const float *x,
                         const float *hidden, const float *d_y, int64_t n, float *d_x, float *d_weights, int half) {
  const mlp::Net net{layers, widths, weights};
#ifdef DIGITIZE_AMX
  if (half) return amx::backward(net, x, (const amx::Half *)hidden, d_y, n, d_x, d_weights);
#endif
  (void)half;
  mlp::backward(net, x, hidden, d_y, n, d_x, d_weights);
}

EXPORT int64_t march(const float *o, const float *d, const float *t_in, const float *t_out, const float *jitter,
                     int64_t rays, float step, const uint8_t *cells, const uint8_t *blocks, int cascades, int side,
                     int64_t most, float *t, int64_t *counts) {
  return volume::march(o, d, t_in, t_out, jitter, rays, step, {cells, blocks, cascades, side}, most, t, counts);
}
EXPORT void visible_counts(const float *density, const int64_t *offsets, int64_t rays, float step, float threshold,
                           int64_t *counts) {
  volume::visible_counts(density, offsets, rays, step, threshold, counts);
}
EXPORT void composite_forward(const float *density, const float *rgb, const float *t, const int64_t *offsets,
                              int64_t rays, int64_t n, float step, float *light, float *through, float *spread) {
  volume::composite(density, rgb, t, offsets, rays, n, step, light, through, spread);
}
EXPORT void composite_backward(const float *density, const float *rgb, const float *t, const int64_t *offsets,
                               int64_t rays, int64_t n, float step, const float *d_light, const float *d_through,
                               const float *d_spread, float *d_density, float *d_rgb) {
  volume::composite_backward(density, rgb, t, offsets, rays, n, step, d_light, d_through, d_spread, d_density, d_rgb);
}

EXPORT void look(const float *x, const int64_t *photo, const photos::View *views, const int64_t *starts,
                 const uint8_t *picture, int64_t n, float *value, float *depth, uint8_t *inside, float *slope) {
  photos::look(x, photo, views, starts, picture, n, value, depth, inside, slope);
}

EXPORT void adam_update(float *value, float *moment1, float *moment2, float *gradient, uint8_t *touched, int64_t blocks,
                        float rate, float beta1, float beta2, float eps, float scale, int step) {
  adam::update(value, moment1, moment2, gradient, touched, blocks, {rate, beta1, beta2, eps, scale, step});
}

// Asks for large pages: fewer address translations in random access. Advice that may be ignored.
EXPORT void advise_large_pages(void *memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t begin = ((uintptr_t)memory + 4095) & ~(uintptr_t)4095, end = (uintptr_t)memory + bytes;
  if (end > begin) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

EXPORT float limit_fma(int64_t rounds) { return limits::fma_peak(rounds); }
EXPORT float limit_gather(const float *table, uint32_t entries, int64_t rounds) {
  return limits::gather_peak(table, entries, rounds);
}
EXPORT void limit_scatter(float *tables, uint32_t entries, int count, int64_t rounds) {
  limits::scatter_peak(tables, entries, count, rounds);
}
