// Adam (Kingma and Ba 2015) over blocks of 16 floats, one cache line: those that were touched, or all.
// Sparse in the way of Instant-NGP: an entry without a gradient keeps its value, and the moments of a block that was not
// touched do not decay. The gradient is left at zero.
#pragma once
#include <cmath>
#include <cstdint>

namespace adam {

struct Rates {
  float rate, beta1, beta2, eps, scale; // the gradient is divided by `scale`
  int step;                             // counted from 1
};

static void update(float *value, float *moment1, float *moment2, float *gradient, uint8_t *touched, int64_t blocks,
                   const Rates &k) {
  const float correct1 = 1 / (1 - std::pow(k.beta1, (float)k.step)), correct2 = 1 / (1 - std::pow(k.beta2, (float)k.step));
  const float unscale = 1 / k.scale;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4096)
  for (int64_t b = 0; b < blocks; b++) {
    if (touched) {
      if (!touched[b]) continue;
      touched[b] = 0;
    }
    float *p = value + 16 * b, *m = moment1 + 16 * b, *v = moment2 + 16 * b, *g = gradient + 16 * b;
#pragma GCC ivdep
    for (int i = 0; i < 16; i++) {
      const float slope = g[i] * unscale;
      m[i] = k.beta1 * m[i] + (1 - k.beta1) * slope;
      v[i] = k.beta2 * v[i] + (1 - k.beta2) * slope * slope;
      const float move = k.rate * (m[i] * correct1) / (std::sqrt(v[i] * correct2) + k.eps);
      p[i] -= slope != 0 ? move : 0.0f;
      g[i] = 0;
    }
  }
}

} // namespace adam
