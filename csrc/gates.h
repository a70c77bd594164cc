// Where a cell meets memory: runs a cell's functions over the rows of a block, a vector of hidden units at a time.
#pragma once
#include "cells.h"

namespace ndrnn::NDRNN_ISA {

// Rows that one product and the gates after it take at a time.
constexpr int64_t kBlock = 72;

// Distances in memory count elements; `width` is the number of hidden units with their padding.
template <class T>
struct ForwardBlock {
  int64_t rows, hidden, width, panel;
  int ndim;
  const T* extra;                    // (extra rows, width)
  T* kept;                           // (rows, kept lanes, width) or null
  T* sums;                           // pre-activations of one panel of units: (rows, lanes, panel)
  const T* h_prev[kMaxAxes][kBlock];  // H elements each
  const T* c_prev[kMaxAxes][kBlock];  // width elements each
  T* h[kBlock];
  T* c[kBlock];
};

// Where the states of a cell saturate, and gradients by them.
template <class T, class Cell>
constexpr T kLimit = Cell::kFeedsMemory ? Simd<T>::kFedStateLimit : Simd<T>::kStateLimit;

template <class T_, class Cell, int kVectors>
struct ForwardAt {
  static constexpr bool kWayBack = false;
  using T = T_;
  using V = Vec<T>;
  const ForwardBlock<T>& block;
  int64_t row, unit;  // the first hidden unit of this vector
  const T* sums;      // of this row and vector

  V in(int lane) const { return load(sums + lane * kVectors * kLanes<T>); }
  V c(int k) const { return load(block.c_prev[k][row] + unit); }
  V h(int k) const { return load_part(block.h_prev[k][row] + unit, block.hidden - unit); }
  V extra(int r) const { return load(block.extra + r * block.width + unit); }
  void keep(int lane, V v) {
    if (block.kept) store(block.kept + (row * Cell::kept(block.ndim) + lane) * block.width + unit, v);
  }
  V limited(V v) const { return clamp<T>(v, -kLimit<T, Cell>, kLimit<T, Cell>); }
  void put_h(V v) { store_part(block.h[row] + unit, v, block.hidden - unit); }
  void put_c(V v) { store(block.c[row] + unit, v); }
};

// A message goes from a point to the predecessor along one axis: the gradient of its h, then, if the cell has a memory,
// that of its c, `width` elements each.
template <class T>
struct BackwardBlock {
  int64_t rows, hidden, width;
  int ndim;
  const T* extra;
  T* extra_sums;                        // (extra rows, width), or null
  const T* kept;
  const T* dh[kBlock];                  // from outside: H elements
  const T* dc[kBlock];
  const T* received[kMaxAxes][kBlock];  // the message of the successor along each axis
  T* sent[kBlock];                      // messages to the predecessors, one after the other
  const T* h_prev[kMaxAxes][kBlock];
  const T* c_prev[kMaxAxes][kBlock];
  const T* h[kBlock];
  const T* c[kBlock];
  T* delta;                             // (rows, lanes, width): gradients of the pre-activations
};

template <class T_, class Cell>
struct BackwardAt {
  static constexpr bool kWayBack = true;
  static constexpr int64_t kParts = Cell::kMemory ? 2 : 1;
  using T = T_;
  using V = Vec<T>;
  const BackwardBlock<T>& block;
  int64_t row, unit;

  V kept(int lane) const {
    return load(block.kept + (row * Cell::kept(block.ndim) + lane) * block.width + unit);
  }
  V c(int k) const { return load(block.c_prev[k][row] + unit); }
  V h(int k) const { return load_part(block.h_prev[k][row] + unit, block.hidden - unit); }
  V c_new() const { return load(block.c[row] + unit); }
  V h_new() const { return load_part(block.h[row] + unit, block.hidden - unit); }
  V extra(int r) const { return load(block.extra + r * block.width + unit); }
  V limited(V v) const { return clamp<T>(v, -kLimit<T, Cell>, kLimit<T, Cell>); }
  V unless_saturated(V state, V v) const { return NDRNN_ISA::unless_saturated<T>(state, kLimit<T, Cell>, v); }
  V dh() const { return gathered(block.dh[row], 0); }
  V dc() const { return gathered(block.dc[row], block.width); }
  void delta(int lane, V v) { put(block.delta + (row * Cell::lanes(block.ndim) + lane) * block.width, v); }
  // What goes straight into the last part of a message; products come on top.
  void carry(int k, V v) { put(block.sent[row] + ((k + 1) * kParts - 1) * block.width, v); }
  void add_extra(int r, V v) {
    if (!block.extra_sums) return;  // the weights are frozen
    T* sum = block.extra_sums + r * block.width + unit;
    store(sum, load(sum) + limited(v));
  }

 private:
  // What comes back from the successors is limited; what comes from outside is as it is, so that whoever scales a loss
  // sees it overflow.
  V gathered(const T* outside, int64_t part) const {
    V sum = load(block.received[0][row] + part + unit);
    for (int k = 1; k < block.ndim; ++k) sum += load(block.received[k][row] + part + unit);
    return limited(sum) + load_part(outside + unit, block.hidden - unit);
  }
  void put(T* to, V v) {
    if (unit + kLanes<T> > block.hidden) v = first<T>(v, block.hidden - unit);
    store(to + unit, v);
  }
};

template <int kNdim>
struct Constant {
  constexpr operator int() const { return kNdim; }
};

// Calls run with the number of axes, as a constant for the usual ones.
template <class Run>
inline void with_ndim(int ndim, Run&& run) {
  if (ndim == 1) run(Constant<1>{});
  else if (ndim == 2) run(Constant<2>{});
  else if (ndim == 3) run(Constant<3>{});
  else run(ndim);
}

// The gates of a panel of hidden units from `unit` on, for all rows of a block.
template <class Cell, class T, int kVectors>
void gates_of_panel(const ForwardBlock<T>& block, int64_t unit) {
  with_ndim(block.ndim, [&](auto ndim) {
    constexpr int64_t kPanel = kVectors * kLanes<T>;
    const int64_t stride = Cell::lanes(ndim) * kPanel;
    for (int64_t row = 0; row < block.rows; ++row)
      for (int64_t lane = 0; lane < kPanel; lane += kLanes<T>) {
        ForwardAt<T, Cell, kVectors> at{block, row, unit + lane, block.sums + row * stride + lane};
        Cell::forward(at, ndim);
      }
  });
}

template <class Cell, class T>
void gates_forward(const ForwardBlock<T>& block, int64_t unit) {
  if (block.panel == kLanes<T>) gates_of_panel<Cell, T, 1>(block, unit);
  else gates_of_panel<Cell, T, 2>(block, unit);
}

template <class Cell, class T>
void gates_backward(const BackwardBlock<T>& block) {
  with_ndim(block.ndim, [&](auto ndim) {
    for (int64_t row = 0; row < block.rows; ++row)
      for (int64_t unit = 0; unit < block.width; unit += kLanes<T>) {
        BackwardAt<T, Cell> at{block, row, unit};
        Cell::backward(at, ndim);
      }
  });
}

// What the walk has to know of a cell.
template <class T>
struct CellInfo {
  bool memory, carry_to_h, feeds_memory, reads_h;
  T limit;
  int ndim, lanes, gates, kept, extra_rows;
  uint32_t (*products)(int lane, int ndim);
  void (*forward)(const ForwardBlock<T>&, int64_t unit);
  void (*backward)(const BackwardBlock<T>&);

  // The products that enter a lane, as far as there are any.
  uint32_t inputs(int lane) const { return products(lane, ndim) & ((2u << ndim) - 1); }
  int parts() const { return memory ? 2 : 1; }  // of a message
};

template <class T>
bool find_cell(const char* name, int ndim, CellInfo<T>& info) {
  bool found = false;
  for_each_cell([&](const char* candidate, auto cell) {
    using Cell = decltype(cell);
    if (__builtin_strcmp(name, candidate) != 0) return;
    found = true;
    // lanes past the gates share the last gate's weights; only the GRU has such
    const int lanes = Cell::lanes(ndim), gates = Cell::kCarryToH ? lanes - ndim : lanes;
    info = {Cell::kMemory, Cell::kCarryToH,         Cell::kFeedsMemory, Cell::kReadsH,           kLimit<T, Cell>, ndim,
            lanes,         gates,                   Cell::kept(ndim),   Cell::extra_rows(ndim),  &Cell::products,
            &gates_forward<Cell, T>, &gates_backward<Cell, T>};
  });
  return found;
}

}  // namespace ndrnn::NDRNN_ISA
