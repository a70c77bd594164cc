// Hidden states of the wavefront's points, from their inputs and what is kept of the wavefronts before.
#pragma once
#include "cells.h"
#include "lattice.h"
#include "weights.h"

namespace ndrnn::NDRNN_ISA {

// States of all lines in the last wavefronts, as many as a predecessor can be away. Column 0 and all lines that have
// not begun are zero: the state outside the block.
class Ring {
 public:
  void make(int64_t steps, int64_t hidden, int64_t lines) {
    steps_ = steps;
    hidden_ = hidden;
    width_ = lines + 1;
    data_.make(steps * hidden * width_);
  }

  // Row `unit` of the wavefront `back` steps before t.
  float* row(int64_t t, int64_t back, int64_t unit) {
    return &data_[((t + steps_ - back) % steps_ * hidden_ + unit) * width_];
  }

 private:
  int64_t steps_ = 0, hidden_ = 0, width_ = 0;
  Array<float> data_;
};

class Network {
 public:
  Network(const CodecPlane& plane, const Weights& weights, const Lattice& lattice, int64_t stride)
      : plane_(plane), weights_(weights), lattice_(lattice), stride_(stride) {
    int64_t steps = 1;
    for (int k = 0; k < plane.axes; ++k) steps = plane.slope[k] > steps ? plane.slope[k] : steps;
    const int64_t hidden = plane.hidden, states = plane.axes * hidden;
    int64_t inputs = weights.inputs > hidden ? weights.inputs : hidden;
    for (int l = 0; l < plane.layers; ++l) {
      h_[l].make(steps + 1, hidden, lattice.lines());
      if (remembers(plane.cell)) c_[l].make(steps + 1, hidden, lattice.lines());
    }
    seen_.make((inputs + states) * stride);
    before_c_.make(states * stride);
    gates_.make(gates_of(plane.cell, plane.axes) * hidden * stride);
    u_.make(states * stride);
    hidden_.make(hidden * stride);
    memory_.make(hidden * stride);
    columns_.make(plane.axes * stride);
  }

  // Where the whitened inputs of the next wavefront belong, (inputs, stride).
  float* inputs() { return seen_.get(); }

  // The top layer's hidden states, (hidden, stride), of wavefront t, which the lattice holds.
  const float* run(int64_t t) {
    const int64_t count = lattice_.count();
    for (int k = 0; k < plane_.axes; ++k)
      for (int64_t p = 0; p < count; ++p) columns_[k * stride_ + p] = lattice_.line_before(p, k) + 1;
    for (int l = 0; l < plane_.layers; ++l) layer(l, t, count);
    return hidden_.get();
  }

 private:
  void layer(int l, int64_t t, int64_t count) {
    const LayerWeights& w = weights_.layers[l];
    const int hidden = plane_.hidden, axes = plane_.axes;
    const bool gru = plane_.cell == CodecCell::kGru;
    float* states = &seen_[w.inputs * stride_];
    if (l) std::memcpy(seen_.get(), hidden_.get(), hidden * stride_ * sizeof(float));
    gather(h_[l], t, states, count);
    if (remembers(plane_.cell)) gather(c_[l], t, before_c_.get(), count);
    multiply({w.weight.get(), w.bias, nullptr, w.rows, w.inputs + axes * hidden}, seen_.get(), gates_.get(), stride_, count);
    if (gru) {
      const int64_t block = int64_t(2 * axes + 1) * hidden * hidden;
      multiply({w.from_inputs, w.bias + w.rows, nullptr, hidden, w.inputs}, seen_.get(), &gates_[w.rows * stride_], stride_, count);
      for (int64_t k = 0; k < axes; ++k)
        multiply({w.from_states + k * block + int64_t(w.rows) * hidden, w.state_bias + k * hidden, nullptr, hidden, hidden},
                 states + k * hidden * stride_, &u_[k * hidden * stride_], stride_, count);
    }
    const CellStep step{axes, hidden, stride_, gates_.get(), u_.get(), states, before_c_.get(), hidden_.get(),
                        remembers(plane_.cell) ? memory_.get() : nullptr};
    advance(plane_.cell, step, count);
    scatter(h_[l], t, hidden_.get(), count);
    if (remembers(plane_.cell)) scatter(c_[l], t, memory_.get(), count);
    if (w.scale)  // what the next layer and the mixture see; the predecessors' states are the cell's own
      for (int64_t unit = 0; unit < hidden; ++unit)
        for (int64_t p = unit * stride_; p < unit * stride_ + count; p += kWide)
          store(&hidden_[p], fma(all(w.scale[unit]), load(&hidden_[p]), load(&seen_[p])));
  }

  void gather(Ring& ring, int64_t t, float* to, int64_t count) {
    for (int64_t k = 0; k < plane_.axes; ++k) {
      const int64_t* column = &columns_[k * stride_];
      for (int64_t unit = 0; unit < plane_.hidden; ++unit, to += stride_) {
        const float* row = ring.row(t, plane_.slope[k], unit);
        for (int64_t p = 0; p < count; ++p) to[p] = row[column[p]];
      }
    }
  }

  void scatter(Ring& ring, int64_t t, const float* from, int64_t count) {
    for (int64_t unit = 0; unit < plane_.hidden; ++unit, from += stride_) {
      float* row = ring.row(t, 0, unit);
      for (int64_t p = 0; p < count; ++p) row[lattice_.line(p) + 1] = from[p];
    }
  }

  const CodecPlane& plane_;
  const Weights& weights_;
  const Lattice& lattice_;
  int64_t stride_;
  Ring h_[Weights::kMostLayers], c_[Weights::kMostLayers];
  Array<float> seen_, before_c_, gates_, u_, hidden_, memory_;
  Array<int64_t> columns_;
};

}  // namespace ndrnn::NDRNN_ISA
