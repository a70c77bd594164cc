// The border with torch: checks, then registration. Only LibTorch's stable ABI is used, and only here.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "pool.h"
#include "problem.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;
using namespace ndrnn;

// The widest instruction set of this machine, or the one that the environment variable NDRNN_CPU_ISA names.
struct Choice {
  const Kernels* kernels = nullptr;
  std::string error;

  Choice() {
    struct Candidate {
      const char* name;
      bool supported;
      const Kernels& (*kernels)();
    };
    const Candidate candidates[] = {
#ifdef NDRNN_X86
        {"avx512", __builtin_cpu_supports("x86-64-v4") != 0, avx512::kernels},
        {"avx2", __builtin_cpu_supports("x86-64-v3") != 0, avx2::kernels},
#endif
        {"portable", true, portable::kernels},
    };
    const char* wanted = std::getenv("NDRNN_CPU_ISA");
    std::string names;
    for (const Candidate& candidate : candidates) {
      names += names.empty() ? candidate.name : std::string(", ") + candidate.name;
      const bool meant = wanted && *wanted ? candidate.name == std::string(wanted) : candidate.supported;
      if (!meant || kernels || !error.empty()) continue;
      if (candidate.supported) kernels = &candidate.kernels();
      else error = std::string("NDRNN_CPU_ISA is ") + wanted + ", which this processor does not support";
    }
    if (!kernels && error.empty())
      error = "NDRNN_CPU_ISA must be one of " + names + ", got " + std::string(wanted);
  }
};

const Choice& choice() {
  static const Choice chosen;
  return chosen;
}

const Kernels& kernels() {
  STD_TORCH_CHECK(choice().kernels, "ndrnn: ", choice().error.c_str());
  return *choice().kernels;
}

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

std::vector<int64_t> shape_of(const Tensor& t) {
  std::vector<int64_t> shape(t.dim());
  for (int64_t d = 0; d < t.dim(); ++d) shape[d] = t.size(d);
  return shape;
}

// A tensor is usable when this has returned: nothing takes a pointer before.
void check(const Tensor& t, const char* name, ScalarType dtype, const std::vector<int64_t>& shape) {
  STD_TORCH_CHECK(t.is_cpu(), "ndrnn: ", name, " must be on the CPU");
  STD_TORCH_CHECK(t.scalar_type() == dtype, "ndrnn: ", name, " has another dtype than wanted: x, weights and states "
                  "must share one, float32 or float64, and sizes are int64");
  const std::vector<int64_t> got = shape_of(t);
  STD_TORCH_CHECK(got == shape, "ndrnn: ", name, " must have shape ", text(shape).c_str(), ", got ", text(got).c_str());
  STD_TORCH_CHECK(t.is_contiguous(), "ndrnn: ", name, " must be contiguous");
}

void check(const Optional& t, const char* name, ScalarType dtype, const std::vector<int64_t>& shape) {
  if (t) check(*t, name, dtype, shape);
}

template <class T>
const T* in(const Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); }
template <class T>
const T* in(const Optional& t) { return t ? in<T>(*t) : nullptr; }
template <class T>
T* out(Tensor& t) { return t.numel() ? static_cast<T*>(t.mutable_data_ptr()) : nullptr; }

struct Inputs {
  const Tensor &x, &weight_ih, &weight_hh;
  const Optional &bias, &extra, &sizes, &h0, &c0;
  const std::string& cell;
  const std::vector<int64_t>& signs;
};

// Whether memory comes from the pool. A sanitizer must see where every block ends.
bool pooled(int64_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  return false;
#endif
  return bytes >= Pool::kLeast;
}

void* take(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  if (pooled(bytes)) return Pool::instance().take(bytes);
  return std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

void give(void* memory, int64_t bytes) {
  if (pooled(bytes)) Pool::instance().give(memory);
  else std::free(memory);
}

// Threads cost more than little work, counted in multiplications; how many there are never changes a result.
Host host(double work) {
  constexpr double kWorthThreads = 1e6;
  return {work < kWorthThreads ? 1 : int(torch::stable::get_num_threads()),
          [](int64_t n, void (*body)(void*, int64_t, int64_t), void* state) {
            torch::stable::parallel_for(0, n, 1, [=](int64_t begin, int64_t end) { body(state, begin, end); });
          },
          take, give};
}

// One checked call: the problem, and the shapes of what belongs to it.
struct Call {
  Problem problem{};
  CellShape cell{};
  ScalarType dtype;
  std::vector<int64_t> y, faces, c, kept;

  explicit Call(const Inputs& in) : dtype(in.x.scalar_type()) {
    Problem& p = problem;
    STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double,
                    "ndrnn: the CPU kernels take float32 and float64");
    p.ndim = int(in.x.dim()) - 2;
    STD_TORCH_CHECK(p.ndim >= 1 && p.ndim <= kMaxNdim, "ndrnn: x must have 3 to ", kMaxNdim + 2,
                    " dimensions (N, D1, ..., Dn, C), got ", in.x.dim());
    STD_TORCH_CHECK(in.weight_hh.dim() == 4, "ndrnn: weight_hh must have 4 dimensions (D, n, G*H, H), got ", in.weight_hh.dim());
    p.batch = in.x.size(0);
    p.inputs = in.x.size(in.x.dim() - 1);
    p.directions = in.weight_hh.size(0);
    p.hidden = in.weight_hh.size(3);
    STD_TORCH_CHECK(p.inputs > 0 && p.directions > 0 && p.hidden > 0,
                    "ndrnn: there must be at least one input feature, direction and hidden unit");
    STD_TORCH_CHECK(kernels().describe(in.cell.c_str(), p.ndim, p.hidden, &cell), "ndrnn: there are no kernels for the cell ",
                    in.cell.c_str());
    int64_t points = 1, face_points = 0;
    for (int k = 0; k < p.ndim; ++k) points *= p.extent[k] = in.x.size(k + 1);
    for (int k = 0; k < p.ndim; ++k) {
      int64_t face = 1;
      for (int j = 0; j < p.ndim; ++j) face *= j == k ? 1 : p.extent[j];
      face_points += face;
    }
    const int64_t rows = cell.gates * p.hidden, width = kernels().width(p.hidden, dtype == ScalarType::Float ? 4 : 8);
    const std::vector<int64_t> x_shape = shape_of(in.x);
    faces = {p.directions, p.batch, face_points, p.hidden};
    y.assign(x_shape.begin(), x_shape.end() - 1);
    y.insert(y.end(), {p.directions, p.hidden});
    c = {p.batch, points, p.directions, width};
    kept = {p.batch * points * p.directions, cell.kept, width};

    check(in.x, "x", dtype, x_shape);
    check(in.weight_ih, "weight_ih", dtype, {p.directions, rows, p.inputs});
    check(in.weight_hh, "weight_hh", dtype, {p.directions, p.ndim, rows, p.hidden});
    check(in.bias, "bias", dtype, {p.directions, rows});
    STD_TORCH_CHECK(in.extra || cell.extra_is_bias || cell.extra == 0, "ndrnn: the cell ", in.cell.c_str(),
                    " needs its additional parameter");
    STD_TORCH_CHECK(!in.extra || in.extra->numel() == p.directions * cell.extra, "ndrnn: extra must have ",
                    p.directions * cell.extra, " elements, got ", in.extra ? in.extra->numel() : 0);
    if (in.extra) check(*in.extra, "extra", dtype, shape_of(*in.extra));
    check(in.h0, "h0", dtype, faces);
    check(in.c0, "c0", dtype, faces);
    STD_TORCH_CHECK(bool(in.c0) == (cell.memory && in.h0), "ndrnn: h0 and c0 belong together, and c0 to cells with a memory");

    STD_TORCH_CHECK(int64_t(in.signs.size()) == p.directions * p.ndim, "ndrnn: signs must have ", p.directions * p.ndim,
                    " entries, got ", int64_t(in.signs.size()));
    for (int64_t sign : in.signs) STD_TORCH_CHECK(sign == 1 || sign == -1, "ndrnn: signs must be +1 or -1, got ", sign);
    p.signs = in.signs.data();
    p.sizes = nullptr;
    if (in.sizes) {
      check(*in.sizes, "sizes", ScalarType::Long, {p.batch, int64_t(p.ndim)});
      p.sizes = ::in<int64_t>(*in.sizes);
      for (int64_t i = 0; i < p.batch * p.ndim; ++i)
        STD_TORCH_CHECK(p.sizes[i] >= 0 && p.sizes[i] <= p.extent[i % p.ndim], "ndrnn: sizes on axis ", i % p.ndim,
                        " must lie in [0, ", p.extent[i % p.ndim], "], got ", p.sizes[i]);
    }
  }

  Host host() const {
    return ::host(double(c[0]) * double(c[1]) * double(c[2]) * double(cell.gates * problem.hidden) *
                  double(problem.inputs + problem.ndim * problem.hidden));
  }
};

template <class T>
Weights<T> weights(const Inputs& i) {
  return {in<T>(i.weight_ih), in<T>(i.weight_hh), in<T>(i.bias), in<T>(i.extra)};
}

void check(Outcome outcome) {
  STD_TORCH_CHECK(outcome != Outcome::kNoMemory, "ndrnn: there is not enough memory for the scan");
  STD_TORCH_CHECK(outcome == Outcome::kDone, "ndrnn: there are no kernels for this cell");
}

Tensor make(const Tensor& like, bool wanted, const std::vector<int64_t>& shape) {
  int64_t elements = wanted ? 1 : 0;
  std::vector<int64_t> strides(shape.size());
  for (size_t i = shape.size(); i-- > 0; elements *= shape[i]) strides[i] = elements;
  const int64_t bytes = elements * int64_t(like.element_size());
  if (!pooled(bytes)) return torch::stable::new_empty(like, wanted ? shape : std::vector<int64_t>{0});
  void* const memory = Pool::instance().take(bytes);
  STD_TORCH_CHECK(memory, "ndrnn: there is not enough memory for ", bytes, " bytes");
  return torch::stable::from_blob(memory, shape, strides, like.device(), like.scalar_type(),
                                  [](void* given) { Pool::instance().give(given); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> scan(
    const Tensor& x, const Tensor& weight_ih, const Tensor& weight_hh, const Optional& bias, const Optional& extra,
    const Optional& sizes, const Optional& h0, const Optional& c0, std::string cell, std::vector<int64_t> signs,
    bool exits, bool keep) {
  const Inputs inputs{x, weight_ih, weight_hh, bias, extra, sizes, h0, c0, cell, signs};
  const Call call(inputs);
  Tensor y = make(x, true, call.y), hn = make(x, exits, call.faces), cn = make(x, exits && call.cell.memory, call.faces);
  Tensor c = make(x, keep && call.cell.memory, call.c), kept = make(x, keep, call.kept);
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    const Forward<T> f{weights<T>(inputs), in<T>(x), in<T>(h0), in<T>(c0), out<T>(y), out<T>(hn), out<T>(cn), out<T>(c), out<T>(kept)};
    check(kernel(cell.c_str(), call.problem, f, call.host()));
  };
  if (call.dtype == ScalarType::Float) run(0.0f, kernels().forward32);
  else run(0.0, kernels().forward64);
  return {y, hn, cn, c, kept};
}

void step(const Tensor& x, const Tensor& weight_ih, const Tensor& weight_hh, const Optional& bias, const Optional& extra,
          std::vector<Tensor> h, std::vector<Tensor> c, Tensor h_new, Optional c_new, std::string cell) {
  // to the checks, and to the cell, N lattices of a single point
  const std::vector<int64_t> signs(weight_hh.dim() == 4 ? weight_hh.size(0) * weight_hh.size(1) : 0, 1);
  const Optional none;
  const Inputs inputs{x, weight_ih, weight_hh, bias, extra, none, none, none, cell, signs};
  const Call call(inputs);
  const Problem& p = call.problem;
  for (int k = 0; k < p.ndim; ++k) STD_TORCH_CHECK(p.extent[k] == 1, "ndrnn: a step takes one point of every lattice");
  STD_TORCH_CHECK(p.directions == 1, "ndrnn: a step takes one direction, got ", p.directions);
  const std::vector<int64_t> states{p.batch, p.hidden};
  auto check_each = [&](const std::vector<Tensor>& tensors, const char* name, int64_t wanted) {
    STD_TORCH_CHECK(int64_t(tensors.size()) == wanted, "ndrnn: ", name, " must hold ", wanted, " tensors, got ",
                    int64_t(tensors.size()));
    for (const Tensor& tensor : tensors) check(tensor, name, call.dtype, states);
  };
  check_each(h, "h", p.ndim);
  check_each(c, "c", call.cell.memory ? p.ndim : 0);
  check(h_new, "the new h", call.dtype, states);
  STD_TORCH_CHECK(bool(c_new) == call.cell.memory, "ndrnn: a new c belongs to cells with a memory");
  check(c_new, "the new c", call.dtype, states);
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    Step<T> s{weights<T>(inputs), in<T>(x), {}, {}, out<T>(h_new), c_new ? out<T>(*c_new) : nullptr};
    for (size_t k = 0; k < h.size(); ++k) s.h[k] = in<T>(h[k]);
    for (size_t k = 0; k < c.size(); ++k) s.c[k] = in<T>(c[k]);
    check(kernel(cell.c_str(), p, s, call.host()));
  };
  if (call.dtype == ScalarType::Float) run(0.0f, kernels().step32);
  else run(0.0, kernels().step64);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> scan_backward(
    const Tensor& dy, const Optional& dhn, const Optional& dcn, const Tensor& x, const Tensor& weight_ih,
    const Tensor& weight_hh, const Optional& bias, const Optional& extra, const Optional& sizes, const Optional& h0,
    const Optional& c0, const Tensor& y, const Tensor& c, const Tensor& kept, std::string cell,
    std::vector<int64_t> signs, bool needs_x, bool needs_weights, bool needs_state) {
  const Inputs inputs{x, weight_ih, weight_hh, bias, extra, sizes, h0, c0, cell, signs};
  const Call call(inputs);
  check(dy, "the gradient of y", call.dtype, call.y);
  check(dhn, "the gradient of hn", call.dtype, call.faces);
  check(dcn, "the gradient of cn", call.dtype, call.faces);
  check(y, "y", call.dtype, call.y);
  if (call.cell.memory) check(c, "c", call.dtype, call.c);
  check(kept, "kept", call.dtype, call.kept);
  STD_TORCH_CHECK(h0 || !needs_state, "ndrnn: without a boundary state there is no gradient of it");
  STD_TORCH_CHECK(call.cell.memory || !dcn, "ndrnn: the cell ", cell.c_str(), " has no memory");

  std::vector<int64_t> x_shape = shape_of(x), per_direction(x_shape.begin(), x_shape.end() - 1);
  per_direction.insert(per_direction.end(), {call.problem.directions, call.problem.inputs});
  const std::vector<int64_t> none{0};
  Tensor dx = make(x, needs_x, x_shape);
  Tensor dx_each = call.problem.directions > 1 ? make(x, needs_x, per_direction) : dx;
  Tensor dih = make(x, needs_weights, shape_of(weight_ih)), dhh = make(x, needs_weights, shape_of(weight_hh));
  Tensor dbias = make(x, needs_weights && bias, bias ? shape_of(*bias) : none);
  Tensor dextra = make(x, needs_weights && extra, extra ? shape_of(*extra) : none);
  Tensor dh0 = make(x, needs_state, call.faces), dc0 = make(x, needs_state && call.cell.memory, call.faces);
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    const Backward<T> b{weights<T>(inputs), in<T>(x), in<T>(h0), in<T>(c0), in<T>(y), in<T>(c), in<T>(kept), in<T>(dy),
                        in<T>(dhn), in<T>(dcn), out<T>(dx), out<T>(dx_each), out<T>(dh0), out<T>(dc0), out<T>(dih), out<T>(dhh),
                        out<T>(dbias), out<T>(dextra)};
    check(kernel(cell.c_str(), call.problem, b, call.host()));
  };
  if (call.dtype == ScalarType::Float) run(0.0f, kernels().backward32);
  else run(0.0, kernels().backward64);
  return {dx, dih, dhh, dbias, dextra, dh0, dc0};
}

Tensor draw(const Tensor& x, const Tensor& rows, const Tensor& energy_weights, const Tensor& priors, const Tensor& precision,
            const Tensor& means, const Tensor& spread, const Tensor& uniform, const Tensor& normal, double feature_bound,
            double energy_bound) {
  const ScalarType dtype = x.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, "ndrnn: the CPU kernels take float32 and float64");
  STD_TORCH_CHECK(x.dim() == 2 && energy_weights.dim() == 2 && priors.dim() == 2 && means.dim() == 2,
                  "ndrnn: x, energy_weights, priors and means must have 2 dimensions");
  const int64_t count = x.size(0), inputs = x.size(1), features = energy_weights.size(1);
  const int64_t components = priors.size(0), scales = priors.size(1), outputs = means.size(1);
  STD_TORCH_CHECK(components > 0 && scales > 0 && outputs > 0, "ndrnn: there must be at least one component, scale and output");
  const int64_t fewest = features + components * outputs;
  const bool linear = rows.dim() == 2 && rows.size(0) == fewest + components;
  check(x, "x", dtype, {count, inputs});
  check(rows, "rows", dtype, {linear ? fewest + components : fewest, inputs});
  check(energy_weights, "energy_weights", dtype, {components, features});
  check(priors, "priors", dtype, {components, scales});
  check(precision, "precision", dtype, {components, scales});
  check(means, "means", dtype, {components, outputs});
  check(spread, "spread", dtype, {components, scales, outputs, outputs});
  check(uniform, "uniform", dtype, {count});
  check(normal, "normal", dtype, {count, outputs});
  Tensor drawn = make(x, true, {count, outputs});
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    const Drawing<T> d{count, inputs, features, components, scales, outputs, linear, in<T>(x), in<T>(rows),
                       in<T>(energy_weights), in<T>(priors), in<T>(precision), in<T>(means), in<T>(spread),
                       T(feature_bound), T(energy_bound), in<T>(uniform), in<T>(normal), out<T>(drawn)};
    check(kernel(d, host(double(count) * double(rows.numel() + energy_weights.numel() + priors.numel()))));
  };
  if (dtype == ScalarType::Float) run(0.0f, kernels().draw32);
  else run(0.0, kernels().draw64);
  return drawn;
}

}  // namespace

#include "linear_border.h"

STABLE_TORCH_LIBRARY_IMPL(ndrnn, CPU, m) {
  m.impl("scan", TORCH_BOX(&scan));
  m.impl("step", TORCH_BOX(&step));
  m.impl("scan_backward", TORCH_BOX(&scan_backward));
  m.impl("draw", TORCH_BOX(&draw));
  m.impl("linear_scan", TORCH_BOX(&linear_scan));
  m.impl("linear_scan_backward", TORCH_BOX(&linear_scan_backward));
  m.impl("linear_layer", TORCH_BOX(&linear_layer));
  m.impl("linear_layer_backward", TORCH_BOX(&linear_layer_backward));
}

// For the Python side, which foretells shapes without running anything.
#define NDRNN_EXPORT extern "C" __attribute__((visibility("default")))

NDRNN_EXPORT const char* ndrnn_error() { return choice().error.c_str(); }
NDRNN_EXPORT const char* ndrnn_isa() { return choice().kernels ? choice().kernels->name : ""; }

// Hidden units with their padding.
NDRNN_EXPORT int64_t ndrnn_width(int64_t hidden, int bytes) {
  return choice().kernels ? choice().kernels->width(hidden, bytes) : 0;
}

// Blocks of units that are kept of a point beside its memory; -1 for an unknown cell.
NDRNN_EXPORT int64_t ndrnn_kept(const char* cell, int ndim) {
  CellShape shape;
  return choice().kernels && choice().kernels->describe(cell, ndim, 1, &shape) ? shape.kept : -1;
}

NDRNN_EXPORT int64_t ndrnn_memory(const char* cell) {
  CellShape shape;
  return choice().kernels && choice().kernels->describe(cell, 1, 1, &shape) && shape.memory;
}

// Hands memory that waits for the next call back to the system; returns how many bytes.
NDRNN_EXPORT int64_t ndrnn_release_memory() { return Pool::instance().clear(); }
