// Cameras and planes of PatchMatch stereo. Pixel coordinates are array indices here: the centre of pixel (0, 0) is (0, 0).
#pragma once
#include <cmath>
#include <cstdint>

namespace stereo {

constexpr int MOST_VIEWS = 8;

// A plane n . X + d = 0 in camera coordinates of the reference; n has length one and faces the camera (n . ray < 0).
struct Plane {
  float n[3], d;
};

// Intrinsics in array indices: principal point minus half a pixel.
struct Pinhole {
  float fx, fy, cx, cy;
};

// One source photo as the reference sees it. Laid out like `_Source` in kernel.py.
struct Source {
  const uint32_t* quads;  // [height * width] a pixel with its right, lower and lower right neighbours, 8 bits each
  const float* depth;     // [height * width] along z, 0 = none; null without a geometric term
  float a[9], b[3];       // x_source ~ (a - b m^T / d) x_reference, m = K_reference^-T n
  float r[9], t[3];       // X_source = r X_reference + t
  Pinhole k;
  int32_t width, height;
};

inline float dot(const float* a, const float* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Direction through a pixel, its z component 1.
inline void ray_of(const Pinhole& k, float x, float y, float* ray) {
  ray[0] = (x - k.cx) / k.fx;
  ray[1] = (y - k.cy) / k.fy;
  ray[2] = 1.f;
}

inline float depth_at(const Plane& plane, const float* ray) { return -plane.d / dot(plane.n, ray); }

// Unit length, and towards the camera.
inline void face_camera(float* n, const float* ray) {
  float scale = 1.f / std::sqrt(dot(n, n) + 1e-20f);
  if (dot(n, ray) > 0) scale = -scale;
  for (int i = 0; i < 3; ++i) n[i] *= scale;
}

// [9] pixels of the reference to pixels of a source by a plane.
inline void homography(const Pinhole& k, const Source& source, const Plane& plane, float* h) {
  const float m0 = plane.n[0] / k.fx, m1 = plane.n[1] / k.fy;
  const float m[3] = {m0 / plane.d, m1 / plane.d, (plane.n[2] - m0 * k.cx - m1 * k.cy) / plane.d};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) h[3 * i + j] = source.a[3 * i + j] - source.b[i] * m[j];
}

// Forward-backward error of the point at depth z of pixel (x, y): into the source, to the depth found there, and back,
// in pixels of the reference, `most` where the source has no depth.
inline float reprojection_error(const Pinhole& k, const Source& s, float x, float y, const float* ray, float z,
                                float most) {
  float p[3];
  for (int i = 0; i < 3; ++i) p[i] = z * (s.r[3 * i] * ray[0] + s.r[3 * i + 1] * ray[1] + s.r[3 * i + 2]) + s.t[i];
  if (p[2] <= 0) return most;
  const float u = s.k.fx * p[0] / p[2] + s.k.cx + .5f, v = s.k.fy * p[1] / p[2] + s.k.cy + .5f;
  if (!(u >= 0 && v >= 0 && u < s.width && v < s.height)) return most;
  const float found = s.depth[static_cast<int>(v) * s.width + static_cast<int>(u)];
  if (found <= 0) return most;
  const float scale = found / p[2];
  const float q[3] = {p[0] * scale - s.t[0], p[1] * scale - s.t[1], found - s.t[2]};
  float back[3];
  for (int i = 0; i < 3; ++i) back[i] = s.r[i] * q[0] + s.r[3 + i] * q[1] + s.r[6 + i] * q[2];
  if (back[2] <= 0) return most;
  const float du = k.fx * back[0] / back[2] + k.cx - x, dv = k.fy * back[1] / back[2] + k.cy - y;
  return std::fmin(most, std::sqrt(du * du + dv * dv));
}

}  // namespace stereo
