// The mixture of conditional Gaussian scale mixtures on top: how much mass lies below and above a value.
#pragma once
#include "weights.h"

namespace ndrnn::NDRNN_ISA {

class Mixture {
 public:
  Mixture(const CodecPlane& plane, const Weights& weights, int64_t stride)
      : plane_(plane), weights_(weights), stride_(stride), squares_(plane.features * stride),
        start_(plane.components * stride), energy_(plane.components * stride), means_(plane.components * stride),
        weight_(int64_t(plane.components) * plane.scales * stride), total_(stride) {}

  // Weights and means of the components, from hidden states (hidden, stride). The weights are not normalised: the
  // greatest is 1.
  void prepare(const float* hidden, int64_t count) {
    const int components = plane_.components, scales = plane_.scales, features = plane_.features;
    multiply({weights_.features, nullptr, nullptr, features, plane_.hidden}, hidden, squares_.get(), stride_, count);
    for (int64_t f = 0; f < features; ++f)
      for (int64_t p = f * stride_; p < f * stride_ + count; p += kWide) {
        const F q = within(load(&squares_[p]), -1e9f, 1e9f);
        store(&squares_[p], q * q);
      }
    if (weights_.linear) multiply({weights_.linear, nullptr, nullptr, components, plane_.hidden}, hidden, start_.get(), stride_, count);
    multiply({weights_.energy_weights.get(), nullptr, start_.get(), components, features}, squares_.get(), energy_.get(), stride_, count);
    multiply({weights_.predictors, weights_.means, nullptr, components, plane_.hidden}, hidden, means_.get(), stride_, count);
    for (int64_t p = 0; p < count; p += kWide) {
      F most = all(-3.0e38f);
      for (int64_t c = 0, i = 0; c < components; ++c) {
        const F energy = within(load(&energy_[c * stride_ + p]), -1e18f, 1e18f);
        for (int s = 0; s < scales; ++s, ++i) {
          const F logit = fma(all(weights_.precision[i]), energy, all(weights_.priors[i]));
          store(&weight_[i * stride_ + p], logit);
          most = logit > most ? logit : most;
        }
      }
      F total{};
      for (int64_t i = 0; i < int64_t(components) * scales; ++i) {
        const F weight = exponential(load(&weight_[i * stride_ + p]) - most);
        store(&weight_[i * stride_ + p], weight);
        total = total + weight;
      }
      store(&total_[p], total);
    }
  }

  const float* total() const { return total_.get(); }

  // The mass below and above whitened values y, for all points: both, since each is exact where it is small.
  void masses(const float* y, float* below, float* above, int64_t count) const {
    for (int64_t p = 0; p < count; p += kWide) {
      const F value = load(y + p);
      F low{}, high{};
      for (int64_t c = 0, i = 0; c < plane_.components; ++c) {
        const F distance = value - load(&means_[c * stride_ + p]);
        for (int s = 0; s < plane_.scales; ++s, ++i) {
          const F z = distance * all(weights_.root[i]), weight = load(&weight_[i * stride_ + p]);
          const I negative = z < F{};
          const F tail = weight * normal_tail(negative ? -z : z), rest = weight - tail;
          low = low + (negative ? tail : rest);
          high = high + (negative ? rest : tail);
        }
      }
      store(below + p, low);
      store(above + p, high);
    }
  }

 private:
  const CodecPlane& plane_;
  const Weights& weights_;
  int64_t stride_;
  Array<float> squares_, start_, energy_, means_, weight_, total_;
};

}  // namespace ndrnn::NDRNN_ISA
