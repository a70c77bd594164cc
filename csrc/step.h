// One step of a scan that the caller walks: the states of points, given those of their predecessors.
#pragma once
#include "forward.h"

namespace ndrnn::NDRNN_ISA {

template <class T>
class PointStep {
 public:
  PointStep(const Plan& plan, const CellInfo<T>& cell, const Step<T>& call, const Host& host)
      : problem_(plan.problem), cell_(cell), call_(call), host_(host), packing_(problem_, cell), arena_(host) {}

  bool run() {
    if (problem_.batch == 0) return true;
    const int64_t workers = workers_for(problem_.batch, host_);
    rows_ = smaller(kBlock, ceil_div(problem_.batch, workers));
    if (!arena_.reserve([&](Layout& layout) { place(layout, workers); })) return false;
    pack(packing_, call_.weights, host_, weights_);
    packing_.extra(call_.weights, 0, extra_);
    deal_out(problem_.batch, workers, kBlock, host_, [&](int64_t worker, int64_t begin, int64_t end) {
      Scratch s;
      place_scratch(s, scratch_ + worker * scratch_bytes_);
      advance_rows(s, begin, end);
    });
    return true;
  }

 private:
  // What one worker needs.
  struct Scratch {
    ForwardBlock<T>* block;
    T* sums;
    T* padded;  // memories, where they have to be padded: (predecessors and the point itself, rows, width)
    const T* inputs[kBlock];
  };

  bool pads() const { return cell_.memory && packing_.width != problem_.hidden; }

  int64_t place_scratch(Scratch& s, char* base) const {
    Layout layout(base);
    layout.place(s.block, 1);
    layout.place(s.sums, rows_ * cell_.lanes * packing_.panel);
    layout.place(s.padded, pads() ? (problem_.ndim + 1) * rows_ * packing_.width : 0);
    return layout.bytes();
  }

  void place(Layout& layout, int64_t workers) {
    Scratch unplaced;
    scratch_bytes_ = place_scratch(unplaced, nullptr);
    layout.place(weights_, packing_.size);
    layout.place(extra_, cell_.extra_rows * packing_.width);
    layout.place(scratch_, workers * scratch_bytes_);
  }

  void advance_rows(Scratch& s, int64_t begin, int64_t end) const {
    const int64_t hidden = problem_.hidden, width = packing_.width;
    ForwardBlock<T>& block = *s.block;
    describe(block, packing_, extra_, s.sums);
    block.rows = end - begin;
    block.kept = nullptr;
    for (int64_t row = 0; row < block.rows; ++row) {
      s.inputs[row] = call_.x + (begin + row) * problem_.inputs;
      block.h[row] = call_.h_new + (begin + row) * hidden;
      for (int k = 0; k < problem_.ndim; ++k) block.h_prev[k][row] = call_.h[k] + (begin + row) * hidden;
      if (!cell_.memory) continue;
      block.c[row] = pads() ? s.padded + (problem_.ndim * rows_ + row) * width : call_.c_new + (begin + row) * hidden;
      for (int k = 0; k < problem_.ndim; ++k) {
        const T* given = call_.c[k] + (begin + row) * hidden;
        if (pads()) {
          T* to = s.padded + (k * rows_ + row) * width;
          std::memcpy(to, given, sizeof(T) * hidden);
          std::memset(to + hidden, 0, sizeof(T) * (width - hidden));
          given = to;
        }
        block.c_prev[k][row] = given;
      }
    }
    advance(packing_, cell_, block, s.inputs, weights_);
    for (int64_t row = 0; pads() && row < block.rows; ++row)
      std::memcpy(call_.c_new + (begin + row) * hidden, block.c[row], sizeof(T) * hidden);
  }

  const Problem& problem_;
  const CellInfo<T>& cell_;
  const Step<T>& call_;
  const Host& host_;
  const Packing<T> packing_;
  Arena arena_;
  int64_t rows_, scratch_bytes_;  // of a block, and of a worker
  T *weights_, *extra_;
  char* scratch_;
};

}  // namespace ndrnn::NDRNN_ISA
