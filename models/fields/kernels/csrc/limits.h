// What this machine can do at most: the loops that bench/engine.py measures the kernels against.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace limits {

// `rounds` x 16 x LANES x 2 floating point operations in registers. Returns something that depends on all of them.
static float fma_peak(int64_t rounds) {
  float sink = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sink)
  {
    mlp::Vector sum[16];
    for (int i = 0; i < 16; i++) sum[i] = mlp::Vector{} + (float)i;
    const mlp::Vector factor = mlp::Vector{} + 0.999f, add = mlp::Vector{} + 1e-3f;
    for (int64_t k = 0; k < rounds; k++)
      for (int i = 0; i < 16; i++) sum[i] = sum[i] * factor + add;
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < mlp::LANES; j++) sink += sum[i][j];
  }
  return sink;
}

static inline uint32_t next(uint32_t &s) { return s = s * 1664525u + 1013904223u, s >> 7; }

// 16 independent random numbers, in a form that the compiler vectorises: the numbers must not be the bottleneck.
struct Random {
  alignas(64) uint32_t state[16];
  explicit Random(uint32_t seed) {
    for (uint32_t i = 0; i < 16; i++) state[i] = seed * 7919u + i * 104729u + 1u, next(state[i]);
  }
  inline void draw(uint32_t mask, uint32_t out[16]) {
#pragma GCC ivdep
    for (int i = 0; i < 16; i++) out[i] = next(state[i]) & mask;
  }
};

// Eight random 8-byte reads a point and level from a table of `entries` (a power of two), points = 16 x rounds.
static float gather_peak(const float *table, uint32_t entries, int64_t rounds) {
  float sink = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : sink)
  for (int64_t part = 0; part < 64; part++) {
    Random random((uint32_t)part);
    alignas(64) uint32_t at[16];
#if defined(__AVX512F__)
    __m512 sum = _mm512_setzero_ps();
    for (int64_t k = part; k < rounds; k += 64)
      for (int corner = 0; corner < 8; corner++) {
        random.draw(entries - 1, at);
        const __m256i *entry = (const __m256i *)at;
        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_i32gather_epi64(_mm256_load_si256(entry), table, 8)));
        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_i32gather_epi64(_mm256_load_si256(entry + 1), table, 8)));
      }
    sink += _mm512_reduce_add_ps(sum);
#else
    float sum = 0;
    for (int64_t k = part; k < rounds; k += 64)
      for (int corner = 0; corner < 8; corner++) {
        random.draw(entries - 1, at);
        for (int i = 0; i < 16; i++) sum += table[2 * (size_t)at[i]] + table[2 * (size_t)at[i] + 1];
      }
    sink += sum;
#endif
  }
  return sink;
}

// Eight random additions of two floats a point and level; each thread has a table of its own in `tables`.
static void scatter_peak(float *tables, uint32_t entries, int tables_count, int64_t rounds) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int owner = 0; owner < tables_count; owner++) {
    Random random((uint32_t)owner);
    float *table = tables + (size_t)owner * entries * 2;
    alignas(64) uint32_t at[16];
    for (int64_t k = 0; k < rounds * 8; k++) {
      random.draw(entries - 1, at);
      for (int i = 0; i < 16; i++) {
#if defined(__SSE2__)
        float *p = table + 2 * (size_t)at[i];
        const __m128 sum = _mm_add_ps(_mm_castsi128_ps(_mm_loadl_epi64((__m128i *)p)), _mm_set1_ps(1e-3f));
        _mm_storel_epi64((__m128i *)p, _mm_castps_si128(sum));
#else
        table[2 * (size_t)at[i]] += 1e-3f, table[2 * (size_t)at[i] + 1] += 1e-3f;
#endif
      }
    }
  }
}

} // namespace limits
