// Weights in the order in which the products read them, and gradients back out of that order.
//
// Forward, a direction's weights are panels of columns, first by units, then by lanes; a panel holds the bias
// and then a row for every feature of the products that enter the lane: inputs, states of each axis, memories of
// each axis. The weight gradients are summed in the same form.
#pragma once
#include "gates.h"
#include "product.h"
#include "walk.h"

namespace ndrnn::NDRNN_ISA {

// The features of a lane's products are runs [begin, begin + length) of the row [inputs | h_1 .. h_n | c_1 .. c_n].
struct Run {
  int64_t begin, length;
  int product;   // 0: inputs, 1 + k: axis k
  bool memory;
};

template <class T>
struct Packing {
  const Problem& problem;
  const CellInfo<T>& cell;
  int64_t panel, width, panels;  // columns of a panel, hidden units with their padding, and panels of them
  int64_t features;       // of the whole row
  int64_t size;           // elements of one direction's forward weights
  Run runs[1 + 2 * kMaxAxes];
  int run_count = 0;

  Packing(const Problem& p, const CellInfo<T>& c)
      : problem(p), cell(c), panel(panel_for<T>(p.hidden)), width(ceil_div(p.hidden, panel) * panel), panels(width / panel) {
    features = 0;
    auto add = [&](int64_t length, int product, bool memory) {
      runs[run_count++] = {features, length, product, memory};
      features += length;
    };
    add(p.inputs, 0, false);
    for (int k = 0; k < p.ndim; ++k) add(p.hidden, 1 + k, false);
    for (int k = 0; k < p.ndim && cell.feeds_memory; ++k) add(p.hidden, 1 + k, true);
    size = 0;
    for (int lane = 0; lane < cell.lanes; ++lane) size += panels * panel_size(lane);
  }

  bool enters(const Run& run, int lane) const { return cell.inputs(lane) >> run.product & 1; }

  int64_t panel_size(int lane) const {
    int64_t rows = 1;
    for (int r = 0; r < run_count; ++r) rows += enters(runs[r], lane) ? runs[r].length : 0;
    return rows * panel;
  }

  int gate(int lane) const { return lane < cell.gates ? lane : cell.gates - 1; }

  // Where the weights of a run start for one direction, lane and unit; a unit's features are contiguous.
  template <class U>
  U* source(const Run& run, int64_t direction, int lane, int64_t unit, U* ih, U* hh, U* extra) const {
    const int64_t rows = cell.gates * problem.hidden, row = gate(lane) * problem.hidden + unit;
    if (run.product == 0) return ih + (direction * rows + row) * problem.inputs;
    U* recurrent = run.memory ? extra : hh;
    return recurrent + ((direction * problem.ndim + run.product - 1) * rows + row) * problem.hidden;
  }

  // The bias of a lane and unit, null without one. A lane past the gates has its bias in the additional parameter.
  template <class U>
  U* bias_of(int64_t direction, int lane, int64_t unit, U* bias, U* extra) const {
    if (lane < cell.gates) return bias ? bias + (direction * cell.gates + lane) * problem.hidden + unit : nullptr;
    const int64_t row = direction * problem.ndim + lane - cell.gates;
    return extra ? extra + row * problem.hidden + unit : nullptr;
  }

  // One panel of a direction's weights; they lie one after the other.
  void forward(const Weights<T>& weights, int64_t direction, int64_t number, T* out) const {
    for (int lane = 0; lane < cell.lanes; out += panel_size(lane), ++lane) {
      for (int64_t j = 0; j < panel; ++j) {
        const int64_t unit = number * panel + j;
        const bool padding = unit >= problem.hidden;
        const T* bias = padding ? nullptr : bias_of(direction, lane, unit, weights.bias, weights.extra);
        T* to = out + j;
        *to = bias ? *bias : T(0);
        for (int r = 0; r < run_count; ++r) {
          if (!enters(runs[r], lane)) continue;
          const T* from =
              padding ? nullptr : source(runs[r], direction, lane, unit, weights.ih, weights.hh, weights.extra);
          for (int64_t i = 0; i < runs[r].length; ++i) *(to += panel) = padding ? T(0) : from[i];
        }
      }
    }
  }

  // One panel of a direction's weight gradients, from the packed form into the parameters' own.
  void unpack(const T* sums, int64_t direction, int64_t number, const Backward<T>& to) const {
    for (int lane = 0; lane < cell.lanes; ++lane) sums += number * panel_size(lane);
    for (int lane = 0; lane < cell.lanes; sums += panel_size(lane), ++lane)
      for (int64_t j = 0; j < smaller(panel, problem.hidden - number * panel); ++j) {
        const int64_t unit = number * panel + j;
        const T* from = sums + j;
        if (T* bias = bias_of(direction, lane, unit, to.dbias, to.dextra)) *bias = *from;
        for (int r = 0; r < run_count; ++r) {
          if (!enters(runs[r], lane)) continue;
          T* row = source(runs[r], direction, lane, unit, to.dih, to.dhh, to.dextra);
          for (int64_t i = 0; i < runs[r].length; ++i) row[i] = *(from += panel);
        }
      }
  }

  // The gradients of the additional rows, (extra rows, width).
  void unpack_extra(const T* sums, int64_t direction, const Backward<T>& to) const {
    for (int row = 0; row < cell.extra_rows; ++row, sums += width)
      std::memcpy(to.dextra + (direction * cell.extra_rows + row) * problem.hidden, sums, sizeof(T) * problem.hidden);
  }

  // The additional rows of a cell that uses them element by element, padded: (extra rows, width).
  void extra(const Weights<T>& weights, int64_t direction, T* out) const {
    for (int row = 0; row < cell.extra_rows; ++row)
      for (int64_t unit = 0; unit < width; ++unit)
        *out++ = unit < problem.hidden ? weights.extra[(direction * cell.extra_rows + row) * problem.hidden + unit]
                                       : T(0);
  }

  // For the way back: panels over the features of a run, with a row for every lane that it enters and every unit.
  int64_t transposed_rows(const Run& run) const {
    int64_t lanes = 0;
    for (int lane = 0; lane < cell.lanes; ++lane) lanes += enters(run, lane);
    return lanes * problem.hidden;
  }

  int64_t transposed_size(const Run& run) const {
    return ceil_div(run.length, panel) * panel * transposed_rows(run);
  }

  // The inputs' weights as rows of all lanes and padded units, one a feature: (inputs, lanes, width). A lane that
  // they do not enter has zeros.
  void by_input(const Weights<T>& weights, int64_t direction, T* out) const {
    for (int64_t i = 0; i < problem.inputs; ++i)
      for (int lane = 0; lane < cell.lanes; ++lane, out += width)
        for (int64_t unit = 0; unit < width; ++unit) {
          const bool there = enters(runs[0], lane) && unit < problem.hidden;
          out[unit] = there ? source(runs[0], direction, lane, unit, weights.ih, weights.hh, weights.extra)[i] : T(0);
        }
  }

  void transposed(const Weights<T>& weights, int64_t direction, const Run& run, T* out) const {
    for (int64_t begin = 0; begin < run.length; begin += panel)
      for (int lane = 0; lane < cell.lanes; ++lane) {
        if (!enters(run, lane)) continue;
        const int64_t length = smaller(panel, run.length - begin);
        for (int64_t unit = 0; unit < problem.hidden; ++unit, out += panel) {
          const T* from = source(run, direction, lane, unit, weights.ih, weights.hh, weights.extra) + begin;
          for (int64_t j = 0; j < panel; ++j) out[j] = j < length ? from[j] : T(0);
        }
      }
  }
};

// The product of a block's rows with packed weights, in runs of weights that stay in the first-level cache.
// Without a bias it is added to what `out` holds.
template <class T, class Out>
void multiply(const Segment<T>* segments, int count, int64_t rows, int64_t panel, const T* weights, const T* bias, Out out) {
  constexpr int kMost = 64;
  Segment<T> run[kMost];
  int in_run = 0;
  int64_t length = 0;
  auto flush = [&] {
    if (in_run == 0 && !bias) return;
    if (panel == kLanes<T>) product<T, 1>(run, in_run, rows, weights, bias, out);
    else product<T, 2>(run, in_run, rows, weights, bias, out);
    weights += length * panel;
    bias = nullptr;
    in_run = 0;
    length = 0;
  };
  for (int s = 0; s < count; ++s)
    for (int64_t done = 0; done < segments[s].length;) {
      const int64_t piece = smaller(segments[s].length - done, kRun - length);
      run[in_run++] = {segments[s].rows, segments[s].offset + done, piece};
      length += piece;
      done += piece;
      if (length == kRun || in_run == kMost) flush();
    }
  flush();
}

}  // namespace ndrnn::NDRNN_ISA
