// The cells' equations (src/ndrnn/cells.py) for the points of a wavefront, in defined arithmetic.
#pragma once
#include "arithmetic.h"
#include "plane.h"

namespace ndrnn::NDRNN_ISA {

// All arrays have rows of `stride` points.
struct CellStep {
  int axes, hidden;
  int64_t stride;
  const float* gates;   // (gates * hidden): pre-activations
  const float* u;       // gru: (axes * hidden): what the predecessors give the candidate
  const float* before_h;  // (axes * hidden)
  const float* before_c;
  float* h;  // (hidden)
  float* c;

  NDRNN_INLINE F gate(int g, int unit, int64_t p) const { return load(gates + (int64_t(g) * hidden + unit) * stride + p); }
  NDRNN_INLINE F of_axis(const float* from, int k, int unit, int64_t p) const {
    return load(from + (int64_t(k) * hidden + unit) * stride + p);
  }
};

// The share of each axis, from logits of all but the last, whose logit is 0.
NDRNN_INLINE F mixed_memory(const CellStep& s, int first, int unit, int64_t p) {
  F shares[kMostAxes], total = all(1.0f);
  for (int k = 0; k + 1 < s.axes; ++k) {
    shares[k] = exponential(s.gate(first + k, unit, p), 40.0f);
    total = total + shares[k];
  }
  shares[s.axes - 1] = all(1.0f);
  F sum = shares[0] / total * s.of_axis(s.before_c, 0, unit, p);
  for (int k = 1; k < s.axes; ++k) sum = fma(shares[k] / total, s.of_axis(s.before_c, k, unit, p), sum);
  return sum;
}

struct Leaky {
  static NDRNN_INLINE void step(const CellStep& s, int unit, int64_t p, F& h, F& c) {
    const F f = logistic(s.gate(0, unit, p)), g = tangent(s.gate(s.axes, unit, p));
    const F o1 = logistic(s.gate(s.axes + 1, unit, p)), o2 = logistic(s.gate(s.axes + 2, unit, p));
    const F old = mixed_memory(s, 1, unit, p);
    c = fma(f, old - g, g);
    h = tangent(fma(o2, old, o1 * c));
  }
};

struct Stable {
  static NDRNN_INLINE void step(const CellStep& s, int unit, int64_t p, F& h, F& c) {
    const F i = logistic(s.gate(0, unit, p)), f = logistic(s.gate(1, unit, p));
    const F g = tangent(s.gate(s.axes + 1, unit, p)), o = logistic(s.gate(s.axes + 2, unit, p));
    c = fma(i, g, f * mixed_memory(s, 2, unit, p));
    h = o * tangent(c);
  }
};

struct Spatial {
  static NDRNN_INLINE void step(const CellStep& s, int unit, int64_t p, F& h, F& c) {
    constexpr float kMost = 1.15292150e18f;  // 2^60: the memory is not bounded by itself
    const F i = logistic(s.gate(0, unit, p)), g = tangent(s.gate(s.axes + 1, unit, p));
    const F o = logistic(s.gate(s.axes + 2, unit, p));
    c = g * i;
    for (int k = 0; k < s.axes; ++k) c = fma(logistic(s.gate(1 + k, unit, p)), s.of_axis(s.before_c, k, unit, p), c);
    c = within(c, -kMost, kMost);
    h = tangent(o * c);
  }
};

struct Gru {
  static NDRNN_INLINE void step(const CellStep& s, int unit, int64_t p, F& h, F&) {
    F shares[kMostAxes], total = all(1.0f), candidate = s.gate(2 * s.axes, unit, p);
    for (int k = 0; k < s.axes; ++k) {
      candidate = fma(logistic(s.gate(k, unit, p)), s.of_axis(s.u, k, unit, p), candidate);
      shares[k] = exponential(s.gate(s.axes + k, unit, p), 40.0f);
      total = total + shares[k];
    }
    h = all(1.0f) / total * tangent(candidate);
    for (int k = 0; k < s.axes; ++k) h = fma(shares[k] / total, s.of_axis(s.before_h, k, unit, p), h);
  }
};

template <class Cell>
inline void advance(const CellStep& s, int64_t count) {
  for (int unit = 0; unit < s.hidden; ++unit)
    for (int64_t p = 0; p < count; p += kWide) {
      F h, c{};
      Cell::step(s, unit, p, h, c);
      store(s.h + unit * s.stride + p, h);
      if (s.c) store(s.c + unit * s.stride + p, c);
    }
}

inline void advance(CodecCell cell, const CellStep& s, int64_t count) {
  switch (cell) {
    case CodecCell::kSpatial: return advance<Spatial>(s, count);
    case CodecCell::kStable: return advance<Stable>(s, count);
    case CodecCell::kLeaky: return advance<Leaky>(s, count);
    case CodecCell::kGru: return advance<Gru>(s, count);
  }
}

}  // namespace ndrnn::NDRNN_ISA
