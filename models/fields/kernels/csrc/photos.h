// What photos show at places of the field: projection and interpolation in one pass.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace photos {

// A photo's camera: OpenCV axes, pixel centres at half numbers.
struct View {
  float width, height, fx, fy, cx, cy;
  float pose[3][4]; // camera to field
};

// Of x [n, 3] in photos photo [n]: brightness [n] in [0, 1], depth [n], whether the four pixels around the place exist
// and it lies in front of the camera [n]; where not, brightness is 0. slope [n, 3], which may be null: d value / d x.
static void look(const float *x, const int64_t *photo, const View *views, const int64_t *starts,
                 const uint8_t *picture, int64_t n, float *value, float *depth, uint8_t *inside, float *slope) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < n; i++) {
    const View &view = views[photo[i]];
    float at[3] = {0, 0, 0};
    for (int k = 0; k < 3; k++)
      for (int c = 0; c < 3; c++) at[c] += (x[3 * i + k] - view.pose[k][3]) * view.pose[k][c];
    depth[i] = at[2];
    const float near = 1.0f / std::max(at[2], 1e-6f);
    const float u = at[0] * near * view.fx + view.cx - 0.5f, v = at[1] * near * view.fy + view.cy - 0.5f;
    inside[i] = at[2] > 0 && u >= 0 && v >= 0 && u <= view.width - 1 && v <= view.height - 1;
    value[i] = 0;
    if (slope) slope[3 * i] = slope[3 * i + 1] = slope[3 * i + 2] = 0;
    if (!inside[i]) continue;
    const float left = std::min(std::floor(u), view.width - 2), top = std::min(std::floor(v), view.height - 2);
    const float a = u - left, b = v - top;
    const int64_t row = (int64_t)view.width;
    const uint8_t *p = picture + starts[photo[i]] + (int64_t)top * row + (int64_t)left;
    const float p00 = p[0], p10 = p[1], p01 = p[row], p11 = p[row + 1];
    value[i] = ((p00 * (1 - a) + p10 * a) * (1 - b) + (p01 * (1 - a) + p11 * a) * b) / 255;
    if (!slope) continue;
    const float du = ((p10 - p00) * (1 - b) + (p11 - p01) * b) * view.fx * near / 255;
    const float dv = ((p01 - p00) * (1 - a) + (p11 - p10) * a) * view.fy * near / 255;
    const float along[3] = {du, dv, -(du * at[0] + dv * at[1]) * near};
    for (int k = 0; k < 3; k++)
      for (int c = 0; c < 3; c++) slope[3 * i + k] += view.pose[k][c] * along[c];
  }
}

} // namespace photos
