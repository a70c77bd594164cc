// Drawing from a mixture of conditional Gaussian scale mixtures, given the random numbers: block by block of samples,
// the products, then sample by sample the choice of component and scale and the Gaussian.
//
// Like a scan's, the weights of a product are packed in panels of columns, each a row of biases and a row for every
// feature. Components lie along the vectors.
#pragma once
#include "pack.h"

namespace ndrnn::NDRNN_ISA {

// The weights (columns, length) of a product, padded to `width` columns.
template <class T>
struct Matrix {
  int64_t columns, length, panel, width;
  T* packed;

  Matrix(int64_t columns, int64_t length)
      : columns(columns), length(length), panel(panel_for<T>(columns)), width(ceil_div(columns, panel) * panel) {}

  int64_t size() const { return width * (length + 1); }

  // Where a column's bias is to be found; its weights follow at distances of a panel.
  T* column(int64_t number) const { return packed + number / panel * panel * (length + 1) + number % panel; }

  void pack(const T* weights, const T* bias) {
    for (int64_t q = 0; q < width; ++q) {
      T* to = column(q);
      *to = bias && q < columns ? bias[q] : T(0);
      for (int64_t i = 0; i < length; ++i) *(to += panel) = q < columns ? weights[q * length + i] : T(0);
    }
  }

  // out (rows, width) from the rows; added to what it holds, or to the biases.
  void times(const T* const* rows, int64_t count, bool add, T* out) const {
    const Segment<T> segment{rows, 0, length};
    for (int64_t begin = 0; begin < width; begin += panel) {
      const T* from = column(begin);
      multiply(&segment, 1, count, panel, from + panel, add ? nullptr : from, Strided<T>{out + begin, width});
    }
  }
};

template <class T>
class MixtureDrawing {
 public:
  MixtureDrawing(const Drawing<T>& call, const Host& host)
      : call_(call), host_(host), arena_(host), features_(call.features, call.inputs),
        linear_(call.linear ? call.components : 0, call.inputs),
        predictors_(call.components * call.outputs, call.inputs), energies_(call.components, call.features) {}

  bool run() {
    if (call_.count == 0) return true;
    const int64_t workers = workers_for(call_.count, host_);
    if (!arena_.reserve([&](Layout& layout) { place(layout, workers); })) return false;
    const T* rows = call_.rows;
    features_.pack(rows, nullptr);
    rows += call_.features * call_.inputs;
    linear_.pack(rows, nullptr);
    rows += linear_.columns * call_.inputs;
    predictors_.pack(rows, call_.means);
    energies_.pack(call_.energy_weights, nullptr);
    const T lowest = -__builtin_inff();
    for (int64_t s = 0; s < call_.scales; ++s)
      for (int64_t k = 0; k < energies_.width; ++k) {
        const bool there = k < call_.components;
        priors_[s * energies_.width + k] = there ? call_.priors[k * call_.scales + s] : lowest;
        precision_[s * energies_.width + k] = there ? call_.precision[k * call_.scales + s] : T(0);
      }
    deal_out(call_.count, workers, kBlock, host_, [&](int64_t worker, int64_t begin, int64_t end) {
      Scratch s;
      place_scratch(s, scratch_ + worker * scratch_bytes_);
      draw_rows(s, begin, end);
    });
    return true;
  }

 private:
  // What one worker needs.
  struct Scratch {
    T *squares, *energies, *predictions;  // of a block
    T *weights;                           // of one sample: (scales, components)
    T *sums;                              // over the scales, then over the components before and this one
    const T* inputs[kBlock];
    const T* squared[kBlock];
  };

  int64_t place_scratch(Scratch& s, char* base) const {
    Layout layout(base);
    layout.place(s.squares, kBlock * features_.width);
    layout.place(s.energies, kBlock * energies_.width);
    layout.place(s.predictions, kBlock * predictors_.width);
    layout.place(s.weights, call_.scales * energies_.width);
    layout.place(s.sums, energies_.width);
    return layout.bytes();
  }

  void place(Layout& layout, int64_t workers) {
    Scratch unplaced;
    scratch_bytes_ = place_scratch(unplaced, nullptr);
    layout.place(features_.packed, features_.size());
    layout.place(linear_.packed, linear_.size());
    layout.place(predictors_.packed, predictors_.size());
    layout.place(energies_.packed, energies_.size());
    layout.place(priors_, call_.scales * energies_.width);
    layout.place(precision_, call_.scales * energies_.width);
    layout.place(scratch_, workers * scratch_bytes_);
  }

  void draw_rows(Scratch& s, int64_t begin, int64_t end) const {
    const int64_t count = end - begin;
    for (int64_t row = 0; row < count; ++row) {
      s.inputs[row] = call_.x + (begin + row) * call_.inputs;
      s.squared[row] = s.squares + row * features_.width;
    }
    features_.times(s.inputs, count, false, s.squares);
    for (int64_t i = 0; i < count * features_.width; i += kLanes<T>) {
      const Vec<T> feature = clamp<T>(load(s.squares + i), -call_.feature_bound, call_.feature_bound);
      store(s.squares + i, feature * feature);
    }
    if (call_.linear) linear_.times(s.inputs, count, false, s.energies);
    energies_.times(s.squared, count, call_.linear, s.energies);
    predictors_.times(s.inputs, count, false, s.predictions);
    for (int64_t row = 0; row < count; ++row) draw_row(s, row, begin + row);
  }

  void draw_row(Scratch& s, int64_t row, int64_t sample) const {
    const int64_t width = energies_.width, outputs = call_.outputs;
    Vec<T> highest = splat(T(-__builtin_inff()));
    for (int64_t k = 0; k < width; k += kLanes<T>) {
      const Vec<T> energy = clamp<T>(load(s.energies + row * width + k), -call_.energy_bound, call_.energy_bound);
      for (int64_t at = k; at < call_.scales * width; at += width) {
        const Vec<T> logit = load(priors_ + at) + load(precision_ + at) * energy;
        highest = logit > highest ? logit : highest;
        store(s.weights + at, logit);
      }
    }
    T top = highest[0];
    for (int lane = 1; lane < kLanes<T>; ++lane) top = highest[lane] > top ? highest[lane] : top;
    for (int64_t k = 0; k < width; k += kLanes<T>) {
      Vec<T> sum{};
      for (int64_t at = k; at < call_.scales * width; at += width) {
        const Vec<T> weight = exp<T>(load(s.weights + at) - splat(top));
        sum += weight;
        store(s.weights + at, weight);
      }
      store(s.sums + k, sum);
    }
    for (int64_t k = 1; k < call_.components; ++k) s.sums[k] += s.sums[k - 1];
    T target = call_.uniform[sample] * s.sums[call_.components - 1];
    int64_t component = 0;
    for (int64_t k = 0; k < call_.components - 1; ++k) component += s.sums[k] <= target;
    if (component > 0) target -= s.sums[component - 1];
    int64_t scale = 0;
    T below = 0;
    for (int64_t i = 0; i < call_.scales - 1; ++i) {
      below += s.weights[i * width + component];
      scale += below <= target;
    }
    const T* spread = call_.spread + (component * call_.scales + scale) * outputs * outputs;
    const T* normal = call_.normal + sample * outputs;
    for (int64_t m = 0; m < outputs; ++m) {
      T value = s.predictions[row * predictors_.width + component * outputs + m];
      for (int64_t j = 0; j < outputs; ++j) value += spread[m * outputs + j] * normal[j];
      call_.drawn[sample * outputs + m] = value;
    }
  }

  const Drawing<T>& call_;
  const Host& host_;
  Arena arena_;
  Matrix<T> features_, linear_, predictors_, energies_;
  T *priors_, *precision_;  // (scales, components)
  char* scratch_;
  int64_t scratch_bytes_;
};

}  // namespace ndrnn::NDRNN_ISA
