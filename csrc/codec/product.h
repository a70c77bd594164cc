// Products of weights with the points of a wavefront. Features are rows, points lie along them in vectors, so that
// every output is one chain of fused multiply-adds along the inputs, in their order.
#pragma once
#include "arithmetic.h"

namespace ndrnn::NDRNN_ISA {

// out[r][p] = start of r, then += weight[r][k] * in[k][p] for k = 0, 1, ...
struct Product {
  const float* weight;  // (rows, inputs)
  const float* bias;    // where chains start: a number a row; or
  const float* start;   // one a row and point, (rows, stride); or zero
  int rows, inputs;
};

template <int kRows, int kVectors>
NDRNN_INLINE void tile(const Product& a, const float* in, float* out, int64_t stride, int row, int64_t p) {
  F sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = a.bias ? all(a.bias[row + r]) : a.start ? load(a.start + (row + r) * stride + p + v * kWide) : F{};
  const float* weight = a.weight + int64_t(row) * a.inputs;
  const float* x = in + p;
  for (int k = 0; k < a.inputs; ++k, x += stride) {
    F xs[kVectors];
    for (int v = 0; v < kVectors; ++v) xs[v] = load(x + v * kWide);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F w = all(weight[int64_t(r) * a.inputs + k]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(w, xs[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) store(out + (row + r) * stride + p + v * kWide, sum[r][v]);
}

template <int kVectors>
NDRNN_INLINE void columns(const Product& a, const float* in, float* out, int64_t stride, int64_t p) {
  constexpr int kRows = kWide == 16 ? 8 : kVectors == 2 ? 6 : 8;
  int row = 0;
  for (; row + kRows <= a.rows; row += kRows) tile<kRows, kVectors>(a, in, out, stride, row, p);
  for (; row + 2 <= a.rows; row += 2) tile<2, kVectors>(a, in, out, stride, row, p);
  if (row < a.rows) tile<1, kVectors>(a, in, out, stride, row, p);
}

// For points [0, count); count is rounded up to whole vectors.
inline void multiply(const Product& a, const float* in, float* out, int64_t stride, int64_t count) {
  int64_t p = 0;
  for (; p + kWide < count; p += 2 * kWide) columns<2>(a, in, out, stride, p);
  for (; p < count; p += kWide) columns<1>(a, in, out, stride, p);
}

}  // namespace ndrnn::NDRNN_ISA
