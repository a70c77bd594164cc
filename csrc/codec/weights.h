// The model's weights as the kernels want them, made of the one array that callers hand over.
#pragma once
#include "memory.h"
#include "plane.h"
#include "product.h"

namespace ndrnn::NDRNN_ISA {

NDRNN_INLINE float scalar_exponential(float x, float limit) { return exponential(all(x), limit)[0]; }

// How many gates a cell has, and whether it has a memory.
inline int gates_of(CodecCell cell, int axes) { return cell == CodecCell::kGru ? 2 * axes + 1 : axes + 3; }
inline bool remembers(CodecCell cell) { return cell != CodecCell::kGru; }

struct LayerWeights {
  Array<float> weight;       // (rows, inputs + axes * hidden), rows that see inputs and all predecessors
  const float* bias;         // (gates * hidden)
  const float* from_inputs;  // gru: candidate's rows of the inputs' weights, (hidden, inputs)
  const float* from_states;  // (axes, gates * hidden, hidden)
  const float* state_bias;   // gru: (axes, hidden)
  const float* scale;        // where the layer adds to what it is given: (hidden); else null
  int inputs, rows;
};

class Weights {
 public:
  explicit Weights(const CodecPlane& plane) : inputs(plane.own + plane.seen * plane.planes), next_(plane.weights) {
    const int hidden = plane.hidden, gates = gates_of(plane.cell, plane.axes), axes = plane.axes;
    input_mean = take(inputs);
    input_transform = take(int64_t(inputs) * inputs);
    predictor = take(inputs);
    output_mean = *take(1);
    output_scale = *take(1);
    for (int l = 0; l < plane.layers; ++l) {
      LayerWeights& layer = layers[l];
      layer.inputs = l ? hidden : inputs;
      layer.rows = (plane.cell == CodecCell::kGru ? 2 * axes : gates) * hidden;
      const float* from_inputs = take(int64_t(gates) * hidden * layer.inputs);
      layer.from_states = take(int64_t(axes) * gates * hidden * hidden);
      layer.bias = take(int64_t(gates) * hidden);
      layer.state_bias = plane.cell == CodecCell::kGru ? take(int64_t(axes) * hidden) : nullptr;
      layer.scale = l && plane.residual ? take(hidden) : nullptr;
      layer.from_inputs = from_inputs + int64_t(layer.rows) * layer.inputs;
      const int64_t width = layer.inputs + int64_t(axes) * hidden;
      layer.weight.make(layer.rows * width);
      for (int64_t row = 0; row < layer.rows; ++row) {
        float* to = &layer.weight[row * width];
        std::memcpy(to, from_inputs + row * layer.inputs, layer.inputs * sizeof(float));
        for (int64_t k = 0; k < axes; ++k)
          std::memcpy(to + layer.inputs + k * hidden, layer.from_states + (k * gates * hidden + row) * hidden,
                      hidden * sizeof(float));
      }
    }
    const int64_t components = plane.components, cells = components * plane.scales;
    priors = take(cells);
    const float* scales = take(cells);
    const float* energy = take(components * plane.features);
    features = take(int64_t(plane.features) * hidden);
    linear = plane.linear ? take(components * hidden) : nullptr;
    predictors = take(components * hidden);
    means = take(components);
    const float* factors = take(components);
    precision.make(cells);
    root.make(cells);
    for (int64_t i = 0; i < cells; ++i) {
      precision[i] = scalar_exponential(scales[i], 40.0f);
      root[i] = __builtin_sqrtf(precision[i]) * __builtin_fabsf(factors[i / plane.scales]);
    }
    energy_weights.make(components * plane.features);
    for (int64_t i = 0; i < components * plane.features; ++i) energy_weights[i] = energy[i] * energy[i] * -0.5f;
    count_ = next_ - plane.weights;
  }

  bool fits(const CodecPlane& plane) const { return count_ == plane.weight_count; }

  int inputs;
  const float *input_mean, *input_transform, *predictor, *features, *linear, *predictors, *means, *priors;
  float output_mean, output_scale;
  Array<float> precision, root;  // (components, scales)
  Array<float> energy_weights;   // (components, features): -1/2 beta^2
  static constexpr int kMostLayers = 8;
  LayerWeights layers[kMostLayers];

 private:
  const float* take(int64_t count) {
    const float* at = next_;
    next_ += count;
    return at;
  }

  const float* next_;
  int64_t count_ = 0;
};

}  // namespace ndrnn::NDRNN_ISA
