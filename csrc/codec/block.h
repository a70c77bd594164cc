// One plane of one block, coded or decoded: for every wavefront inputs -> hidden states -> mixture, then bit after bit
// of the values' ranks, each of all points of the wavefront before the next.
#pragma once
#include "mixing.h"
#include "mixture.h"
#include "network.h"

namespace ndrnn::NDRNN_ISA {

template <class Coder>
class Block {
 public:
  Block(const CodecPlane& plane, uint16_t* values, Coder& coder)
      : plane_(plane), values_(values), coder_(coder), lattice_(plane), weights_(plane),
        stride_((lattice_.most() + kWide - 1) / kWide * kWide), network_(plane, weights_, lattice_, stride_),
        mixture_(plane, weights_, stride_), mixing_(plane, plane.mixing ? lattice_.points() : 1, plane.mixing ? stride_ : 1),
        centred_(weights_.inputs * stride_), expected_(stride_), y_(stride_), levels_(plane.levels + 1),
        rank_(stride_), prefix_(stride_), below_(3 * stride_), above_(3 * stride_) {
    const float unit = unit_of(plane.bits);
    for (int r = 1; r < plane.levels; ++r)
      levels_[r] = float(int(plane.alphabet[r - 1]) + 1 + int(plane.alphabet[r])) * (0.5f * unit);
  }

  bool valid() const { return weights_.fits(plane_); }

  void run() {
    const int bits = depth();
    for (int64_t t = 0; t < lattice_.steps(); ++t) {
      lattice_.collect(t);
      const int64_t count = lattice_.count();
      if (count == 0 || bits == 0) continue;
      see(count);
      mixture_.prepare(network_.run(t), count);
      begin(count);
      for (int level = 0; level < bits; ++level) decide(level, bits - 1 - level, count);
      for (int64_t p = 0; p < count; ++p)
        if (!Coder::kWrites) values_[lattice_.index(p)] = plane_.alphabet[prefix_[p]];
    }
    if (bits == 0 && !Coder::kWrites)
      for (int64_t i = 0; i < lattice_.points(); ++i) values_[i] = plane_.alphabet[0];
  }

 private:
  // Decisions that a value takes.
  int depth() const {
    int bits = 0;
    while (1 << bits < plane_.levels) ++bits;
    return bits;
  }

  static float unit_of(int bits) { return 1.0f / float(1 << bits); }

  int value_at(int64_t index) const { return index < 0 ? plane_.border : values_[index]; }

  // Whitened inputs and what is expected of the outputs before the network speaks.
  void see(int64_t count) {
    const float half = 0.5f, unit = unit_of(plane_.bits);
    const int own = plane_.own, axes = plane_.axes;
    const int64_t points = lattice_.points();
    for (int64_t p = 0; p < count; ++p) {
      float* to = &centred_[p];
      for (int i = 0; i < own; ++i, to += stride_)
        *to = (float(value_at(lattice_.earlier(p, plane_.offsets + i * axes))) + half) * unit;
      for (int i = own; i < own + plane_.seen; ++i) {
        const int64_t at = lattice_.clamped(p, plane_.offsets + i * axes);
        for (int c = 0; c < plane_.planes; ++c, to += stride_) *to = (float(plane_.observed[c * points + at]) + half) * unit;
      }
    }
    for (int i = 0; i < weights_.inputs; ++i)
      for (int64_t p = 0; p < count; p += kWide) {
        float* at = &centred_[i * stride_ + p];
        store(at, load(at) - all(weights_.input_mean[i]));
      }
    multiply({weights_.input_transform, nullptr, nullptr, weights_.inputs, weights_.inputs}, centred_.get(), network_.inputs(), stride_, count);
    multiply({weights_.predictor, &weights_.output_mean, nullptr, 1, weights_.inputs}, centred_.get(), expected_.get(), stride_, count);
    if (plane_.mixing) see_neighbors(count);
  }

  void see_neighbors(int64_t count) {
    const int last = plane_.axes - 1;
    int32_t offsets[Mixing::kNeighbors][kMostAxes] = {};
    constexpr int kSteps[Mixing::kNeighbors - 1][2] = {{0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2}, {-2, 0}};
    for (int i = 0; i < Mixing::kNeighbors - 1; ++i) {
      offsets[i][last] = kSteps[i][1];
      if (last > 0) offsets[i][last - 1] = kSteps[i][0];
      else offsets[i][0] = kSteps[i][0] + (kSteps[i][1] < 0 ? kSteps[i][1] : 0);  // on a line all are before
    }
    offsets[Mixing::kNeighbors - 1][0] = -1;
    for (int64_t p = 0; p < count; ++p) {
      int values[Mixing::kNeighbors];
      for (int i = 0; i < Mixing::kNeighbors; ++i) values[i] = value_at(lattice_.earlier(p, offsets[i]));
      mixing_.see(p, values, plane_.before ? plane_.before[lattice_.index(p)] : -1);
    }
  }

  // All values are possible: nothing lies below the first and above the last.
  void begin(int64_t count) {
    const float* total = mixture_.total();
    for (int64_t p = 0; p < count; ++p) {
      below_[kLow * stride_ + p] = above_[kHigh * stride_ + p] = 0.0f;
      below_[kHigh * stride_ + p] = above_[kLow * stride_ + p] = total[p];
      prefix_[p] = 0;
      if (Coder::kWrites) rank_[p] = rank_of(values_[lattice_.index(p)]);
    }
  }

  uint32_t rank_of(int value) const {
    int first = 0, last = plane_.levels - 1;
    while (first < last) {
      const int middle = (first + last + 1) / 2;
      if (plane_.alphabet[middle] <= value) first = middle;
      else last = middle - 1;
    }
    return uint32_t(first);
  }

  // Bit `bit` of all ranks, from the highest.
  void decide(int level, int bit, int64_t count) {
    const uint32_t levels = uint32_t(plane_.levels);
    for (int64_t p = 0; p < count; ++p) {
      const uint32_t middle = (2 * prefix_[p] + 1) << bit;
      y_[p] = (levels_[middle < levels ? middle : 0] - expected_[p]) * weights_.output_scale;
    }
    mixture_.masses(y_.get(), &below_[kMiddle * stride_], &above_[kMiddle * stride_], count);
    for (int64_t p = 0; p < count; ++p) {
      const uint32_t prefix = prefix_[p], low = 2 * prefix << bit, middle = low + (1u << bit), end = low + (2u << bit);
      bool one = false;
      if (plane_.mixing && level % 4 == 0) mixing_.enter(p, level, prefix);
      if (middle < levels) {  // otherwise no value has a 1 here
        const uint32_t high = end < levels ? end : levels;
        const uint32_t model = model_probability(p, middle - low, high - middle);
        const bool known = Coder::kWrites && (rank_[p] >> bit & 1);
        if (plane_.mixing) {
          one = coder_.code(known, mixing_.probability(p, level, prefix, model));
          mixing_.learn(one);
        } else {
          one = coder_.code(known, model);
        }
        const int side = one ? kLow : kHigh;
        below_[side * stride_ + p] = below_[kMiddle * stride_ + p];
        above_[side * stride_ + p] = above_[kMiddle * stride_ + p];
      }
      prefix_[p] = 2 * prefix + one;
    }
  }

  // Of a 1, in units of 2^-16, where `zeros` and `ones` values are left. Of two differences the one of smaller numbers
  // is the exact one. A millionth of all mass is spread evenly over all values, so that none is impossible.
  uint32_t model_probability(int64_t p, uint32_t zeros, uint32_t ones) const {
    const float even = mixture_.total()[p] * 9.5367431640625e-7f / float(plane_.levels);
    const float zero = mass(p, kLow, kMiddle) + even * float(zeros);
    const float one = mass(p, kMiddle, kHigh) + even * float(ones);
    const int scaled = int(one / (zero + one) * 65536.0f + 0.5f);
    return uint32_t(scaled < 1 ? 1 : scaled > 65535 ? 65535 : scaled);
  }

  float mass(int64_t p, int from, int to) const {
    const float b0 = below_[from * stride_ + p], b1 = below_[to * stride_ + p];
    const float a0 = above_[from * stride_ + p], a1 = above_[to * stride_ + p];
    const float difference = b1 < a0 ? b1 - b0 : a0 - a1;
    return difference > 0.0f ? difference : 0.0f;
  }

  enum { kLow, kMiddle, kHigh };

  const CodecPlane& plane_;
  uint16_t* values_;
  Coder& coder_;
  Lattice lattice_;
  Weights weights_;
  int64_t stride_;
  Network network_;
  Mixture mixture_;
  Mixing mixing_;
  Array<float> centred_, expected_, y_, levels_;
  Array<uint32_t> rank_, prefix_;
  Array<float> below_, above_;
};

}  // namespace ndrnn::NDRNN_ISA
