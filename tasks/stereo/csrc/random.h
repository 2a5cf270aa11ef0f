// Random numbers of a pixel: a hash of what names them, so that the order of work does not matter.
#pragma once
#include <cstdint>

namespace stereo {

class Random {
 public:
  Random(uint64_t seed, uint64_t round, uint64_t pixel)
      : state_(mix(seed * 0x9E3779B97F4A7C15ull + round) ^ mix(pixel * 0xC2B2AE3D27D4EB4Full + 0x165667B19E3779F9ull)) {}

  // Uniform in [0, 1).
  float uniform() {
    state_ += 0x9E3779B97F4A7C15ull;
    return static_cast<float>(mix(state_) >> 40) * (1.f / (1 << 24));
  }

  // Uniform in [-1, 1).
  float symmetric() { return 2.f * uniform() - 1.f; }

 private:
  // The finaliser of SplitMix64 (Steele et al. 2014).
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

}  // namespace stereo
