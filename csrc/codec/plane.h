// What the codec's callers and its kernels say to each other: one plane of one block, and the model that codes it.
#pragma once
#include <cstdint>

namespace ndrnn {

constexpr int kMostAxes = 3;

enum class CodecCell : int32_t { kSpatial, kStable, kLeaky, kGru };

enum class CodecOutcome : int32_t { kDone, kNoRoom, kNoMemory, kWrongCall };

// Plain data, so that any language can fill it in. Arrays are the caller's.
struct CodecPlane {
  // the lattice of points, its last axis fastest; point x is coded at step sum_k slope[k] * x[k]
  int32_t axes;
  int32_t size[kMostAxes];
  int32_t slope[kMostAxes];
  // values are below 2^bits; those that occur are the alphabet, `levels` of them in ascending order
  int32_t bits;
  int32_t levels;
  const uint16_t* alphabet;
  int32_t border;  // what the first point sees around the block
  int32_t mixing;  // whether the model's decisions are mixed with those of adaptive counters
  // the neighbourhood: `own` earlier points of this plane, then `seen` points of each of the planes before it
  int32_t own, seen, planes;
  const int32_t* offsets;  // (own + seen, axes)
  const uint16_t* observed;  // (planes, points)
  const uint16_t* before;  // the plane coded just before this one, (points), for the counters; or null
  // the model; the weights in the order of docs/codec.md
  CodecCell cell;
  int32_t layers, hidden, residual, features, components, scales, linear;
  const float* weights;
  int64_t weight_count;
};

// Codes `values` to `bytes`, of which there is room for `room`, and says how many were used; or the other way round.
struct CodecKernels {
  CodecOutcome (*encode)(const CodecPlane&, const uint16_t* values, uint8_t* bytes, int64_t room, int64_t* used);
  CodecOutcome (*decode)(const CodecPlane&, uint16_t* values, const uint8_t* bytes, int64_t count);
  // exp, logistic, tanh, normal tail and a fused product of numbers, (count, 5), for tests
  void (*functions)(const float* x, int64_t count, float* results);
};

namespace codec_portable { const CodecKernels& kernels(); }
namespace codec_avx2 { const CodecKernels& kernels(); }
namespace codec_avx512 { const CodecKernels& kernels(); }

}  // namespace ndrnn
