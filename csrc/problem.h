// What the border with torch hands to the kernels. Plain data: this header is shared by all instruction sets.
#pragma once
#include <cstdint>

namespace ndrnn {

constexpr int kMaxNdim = 8;

// n axes, N samples, D directions, C inputs, H hidden units, G gates, P lattice points, F face points in all.
struct Problem {
  int ndim;
  int64_t batch, directions, inputs, hidden;
  int64_t extent[kMaxNdim];
  const int64_t* signs;  // (D, n), +1 or -1
  const int64_t* sizes;  // (N, n) or null
};

template <class T>
struct Weights {
  const T* ih;     // (D, G*H, C)
  const T* hh;     // (D, n, G*H, H)
  const T* bias;   // (D, G*H) or null
  const T* extra;  // peepholes (D, n+2, H), memory weights (D, n, G*H, H), or the GRU's bias (D, n, H); or null
};

template <class T>
struct Forward {
  Weights<T> weights;
  const T* x;         // (N, P, C)
  const T *h0, *c0;   // (D, N, F, H) or null
  T* y;               // (N, P, D, H)
  T *hn, *cn;         // (D, N, F, H) or null
  T *c, *kept;        // for the backward pass: (N, P, D, width) and (N * P * D, kept lanes, width), or null
};

// One step of N points, each with predecessors of its own; one direction.
template <class T>
struct Step {
  Weights<T> weights;
  const T* x;                      // (N, C)
  const T *h[kMaxNdim], *c[kMaxNdim];  // of the predecessors along each axis: (N, H)
  T *h_new, *c_new;                // (N, H); c and c_new only of a cell with a memory
};

template <class T>
struct Backward {
  Weights<T> weights;
  const T* x;
  const T *h0, *c0;
  const T *y, *c, *kept;
  const T* dy;           // (N, P, D, H)
  const T *dhn, *dcn;    // (D, N, F, H) or null
  T* dx;                 // (N, P, C) or null
  T* dx_each;            // (N, P, D, C), one for each direction; the same as dx for one
  T *dh0, *dc0;          // (D, N, F, H) or null
  T *dih, *dhh, *dbias, *dextra;
};

// P draws from a mixture of conditional Gaussian scale mixtures: N inputs, F features, K components, S scales, M outputs.
template <class T>
struct Drawing {
  int64_t count, inputs, features, components, scales, outputs;
  bool linear;
  const T* x;                       // (P, N)
  const T* rows;                    // (F [+ K] + K * M, N): features, linear terms if there are any, predictors
  const T* energy_weights;          // (K, F): the gate's energy is these times the squared features
  const T *priors, *precision;      // (K, S): logits are priors plus precision times energy
  const T *means, *spread;          // (K, M) and (K, S, M, M)
  T feature_bound, energy_bound;
  const T *uniform, *normal;        // (P) and (P, M)
  T* drawn;                         // (P, M)
};

// A linear recurrence in one direction: c = z + sum over the axes of f times c of the predecessor.
template <class T>
struct LinearScan {
  bool per_unit;      // f has an element for every unit, or one for all
  const T* z;         // (N, P, H)
  const T* f;         // (n, N, P, H) or (n, N, P, 1)
  const T* c0;        // (N, F, H) or null
  T *c, *cn;          // (N, P, H), and (N, F, H) or null
};

template <class T>
struct LinearScanBackward {
  bool per_unit;
  const T *f, *c0, *c;
  const T *dc, *dcn;  // (N, P, H), and (N, F, H) or null
  T *dz, *df, *dc0;   // df and dc0 may be null
};

// The layer on it, in D directions: gates from the input alone, i, f_1 .. f_n, g, o.
template <class T>
struct LinearLayer {
  bool even;          // the rule that bounds the shares
  const T* x;         // (N, P, C)
  const T* weight;    // (D, (n + 3) * H, C)
  const T* bias;      // (D, (n + 3) * H) or null
  const T* c0;        // (D, N, F, H) or null
  T *y, *cn, *c;      // (N, P, D, H), (D, N, F, H) or null, and for the way back (D, N, P, width) or null
};

template <class T>
struct LinearLayerBackward {
  LinearLayer<T> forward;       // y and cn are not read
  const T *dy, *dcn;
  T *dx, *dweight, *dbias, *dc0;  // each may be null
};

// What the kernels ask the border for.
struct Host {
  int threads;
  // A loop over [0, n) in the caller's thread pool; body(state, begin, end).
  void (*run)(int64_t n, void (*body)(void*, int64_t, int64_t), void* state);
  // Uninitialised memory, aligned for vectors, or null; and back, with the same number of bytes.
  void* (*take)(int64_t bytes);
  void (*give)(void* memory, int64_t bytes);
};

enum class Outcome { kDone, kUnknownCell, kNoMemory };

// What the shapes of a cell's tensors follow from.
struct CellShape {
  int gates, kept;     // weight blocks, and blocks that the forward scan keeps for the way back
  int64_t extra;       // elements of the additional parameter of one direction
  bool extra_is_bias;  // it may be missing
  bool memory;
};

struct Kernels {
  const char* name;
  int64_t (*width)(int64_t hidden, int bytes);  // hidden units with their padding
  bool (*describe)(const char* cell, int ndim, int64_t hidden, CellShape*);  // false for an unknown cell
  Outcome (*forward32)(const char* cell, const Problem&, const Forward<float>&, const Host&);
  Outcome (*forward64)(const char* cell, const Problem&, const Forward<double>&, const Host&);
  Outcome (*step32)(const char* cell, const Problem&, const Step<float>&, const Host&);
  Outcome (*step64)(const char* cell, const Problem&, const Step<double>&, const Host&);
  Outcome (*backward32)(const char* cell, const Problem&, const Backward<float>&, const Host&);
  Outcome (*backward64)(const char* cell, const Problem&, const Backward<double>&, const Host&);
  Outcome (*draw32)(const Drawing<float>&, const Host&);
  Outcome (*draw64)(const Drawing<double>&, const Host&);
  Outcome (*linear32)(const Problem&, const LinearScan<float>&, const Host&);
  Outcome (*linear64)(const Problem&, const LinearScan<double>&, const Host&);
  Outcome (*linear_backward32)(const Problem&, const LinearScanBackward<float>&, const Host&);
  Outcome (*linear_backward64)(const Problem&, const LinearScanBackward<double>&, const Host&);
  Outcome (*linear_layer32)(const Problem&, const LinearLayer<float>&, const Host&);
  Outcome (*linear_layer64)(const Problem&, const LinearLayer<double>&, const Host&);
  Outcome (*linear_layer_backward32)(const Problem&, const LinearLayerBackward<float>&, const Host&);
  Outcome (*linear_layer_backward64)(const Problem&, const LinearLayerBackward<double>&, const Host&);
};

namespace avx512 { const Kernels& kernels(); }
namespace avx2 { const Kernels& kernels(); }
namespace portable { const Kernels& kernels(); }

}  // namespace ndrnn
