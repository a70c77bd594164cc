// The table of one instruction set's kernels. Each set's source file defines NDRNN_ISA and includes this.
#pragma once
#include "backward.h"
#include "drawing.h"
#include "linear_backward.h"
#include "linear_forward.h"
#include "linear_scan.h"
#include "step.h"

namespace ndrnn::NDRNN_ISA {

template <class T, template <class> class Run, class Call>
Outcome run(const char* name, const Problem& problem, const Call& call, const Host& host) {
  CellInfo<T> cell;
  if (!find_cell(name, problem.ndim, cell)) return Outcome::kUnknownCell;
  const Plan plan(problem);
  return Run<T>(plan, cell, call, host).run() ? Outcome::kDone : Outcome::kNoMemory;
}

template <class T>
Outcome draw(const Drawing<T>& call, const Host& host) {
  return MixtureDrawing<T>(call, host).run() ? Outcome::kDone : Outcome::kNoMemory;
}

template <template <class> class Run, class T, template <class> class Call>
Outcome linear(const Problem& problem, const Call<T>& call, const Host& host) {
  const Plan plan(problem);
  return Run<T>(plan, call, host).run() ? Outcome::kDone : Outcome::kNoMemory;
}

int64_t width(int64_t hidden, int bytes) {
  const int64_t panel = bytes == 4 ? panel_for<float>(hidden) : panel_for<double>(hidden);
  return ceil_div(hidden, panel) * panel;
}

bool describe(const char* name, int ndim, int64_t hidden, CellShape* shape) {
  CellInfo<float> cell;
  if (!find_cell(name, ndim, cell)) return false;
  const int biases = cell.lanes - cell.gates;
  const int64_t matrices = cell.feeds_memory ? ndim * cell.gates * hidden : 0;
  *shape = {cell.gates, cell.kept, (cell.extra_rows + biases + matrices) * hidden, biases > 0, cell.memory};
  return true;
}

#define NDRNN_TEXT_(name) #name
#define NDRNN_TEXT(name) NDRNN_TEXT_(name)

const Kernels& kernels() {
  static constexpr Kernels table{NDRNN_TEXT(NDRNN_ISA),
                                 width,
                                 describe,
                                 run<float, ForwardScan, Forward<float>>,
                                 run<double, ForwardScan, Forward<double>>,
                                 run<float, PointStep, Step<float>>,
                                 run<double, PointStep, Step<double>>,
                                 run<float, BackwardScan, Backward<float>>,
                                 run<double, BackwardScan, Backward<double>>,
                                 draw<float>,
                                 draw<double>,
                                 linear<LinearForward, float, LinearScan>,
                                 linear<LinearForward, double, LinearScan>,
                                 linear<LinearBackward, float, LinearScanBackward>,
                                 linear<LinearBackward, double, LinearScanBackward>,
                                 linear<LinearLayerForward, float, LinearLayer>,
                                 linear<LinearLayerForward, double, LinearLayer>,
                                 linear<LinearLayerWayBack, float, LinearLayerBackward>,
                                 linear<LinearLayerWayBack, double, LinearLayerBackward>};
  return table;
}

}  // namespace ndrnn::NDRNN_ISA
