// The border of the linear recurrences with torch; a part of library.cpp, whose checks it uses.
#pragma once

namespace {

// The lattice of `points`, (N, D1, ..., Dn, anything), with the extents and directions of a call, checked.
Problem lattice_of(const Tensor& points, const Optional& sizes, const std::vector<int64_t>& signs, int64_t directions) {
  Problem p{};
  const ScalarType dtype = points.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, "ndrnn: the CPU kernels take float32 and float64");
  p.ndim = int(points.dim()) - 2;
  STD_TORCH_CHECK(p.ndim >= 1 && p.ndim <= kMaxNdim, "ndrnn: the input must have 3 to ", kMaxNdim + 2,
                  " dimensions (N, D1, ..., Dn, features), got ", points.dim());
  check(points, "the input", dtype, shape_of(points));
  p.batch = points.size(0);
  p.directions = directions;
  for (int k = 0; k < p.ndim; ++k) p.extent[k] = points.size(k + 1);
  STD_TORCH_CHECK(points.size(p.ndim + 1) > 0 && directions > 0, "ndrnn: there must be at least one feature and direction");
  STD_TORCH_CHECK(int64_t(signs.size()) == directions * p.ndim, "ndrnn: signs must have ", directions * p.ndim,
                  " entries, got ", int64_t(signs.size()));
  for (int64_t sign : signs) STD_TORCH_CHECK(sign == 1 || sign == -1, "ndrnn: signs must be +1 or -1, got ", sign);
  p.signs = signs.data();
  if (!sizes) return p;
  check(*sizes, "sizes", ScalarType::Long, {p.batch, int64_t(p.ndim)});
  p.sizes = in<int64_t>(*sizes);
  for (int64_t i = 0; i < p.batch * p.ndim; ++i)
    STD_TORCH_CHECK(p.sizes[i] >= 0 && p.sizes[i] <= p.extent[i % p.ndim], "ndrnn: sizes on axis ", i % p.ndim,
                    " must lie in [0, ", p.extent[i % p.ndim], "], got ", p.sizes[i]);
  return p;
}

int64_t points_of(const Problem& p) {
  int64_t points = 1;
  for (int k = 0; k < p.ndim; ++k) points *= p.extent[k];
  return points;
}

int64_t face_points_of(const Problem& p) {
  int64_t all = 0;
  for (int k = 0; k < p.ndim; ++k) {
    int64_t face = 1;
    for (int j = 0; j < p.ndim; ++j) face *= j == k ? 1 : p.extent[j];
    all += face;
  }
  return all;
}

// One checked call of the bare recurrence, given its memory or what becomes of it.
struct LinearScanCall {
  Problem problem;
  bool per_unit;
  std::vector<int64_t> f, faces;

  LinearScanCall(const Tensor& points, const Tensor& shares, const Optional& sizes, const Optional& c0, const std::vector<int64_t>& signs)
      : problem(lattice_of(points, sizes, signs, 1)) {
    Problem& p = problem;
    p.hidden = points.size(p.ndim + 1);
    per_unit = shares.dim() > 0 && shares.size(shares.dim() - 1) == p.hidden;
    f = shape_of(points);
    f.insert(f.begin(), p.ndim);
    if (!per_unit) f.back() = 1;
    faces = {p.batch, face_points_of(p), p.hidden};
    check(shares, "f", points.scalar_type(), f);
    check(c0, "the boundary state", points.scalar_type(), faces);
  }

  Host host() const { return ::host(double(problem.batch) * double(points_of(problem)) * double(problem.hidden * problem.ndim)); }
};

std::tuple<Tensor, Tensor> linear_scan(const Tensor& z, const Tensor& f, const Optional& sizes, const Optional& c0,
                                       std::vector<int64_t> signs, bool exits) {
  const LinearScanCall call(z, f, sizes, c0, signs);
  Tensor c = make(z, true, shape_of(z)), cn = make(z, exits, call.faces);
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    const LinearScan<T> scan{call.per_unit, in<T>(z), in<T>(f), in<T>(c0), out<T>(c), out<T>(cn)};
    check(kernel(call.problem, scan, call.host()));
  };
  if (z.scalar_type() == ScalarType::Float) run(0.0f, kernels().linear32);
  else run(0.0, kernels().linear64);
  return {c, cn};
}

std::tuple<Tensor, Tensor, Tensor> linear_scan_backward(const Tensor& dc, const Optional& dcn, const Tensor& f, const Optional& sizes,
                                                        const Optional& c0, const Tensor& c, std::vector<int64_t> signs,
                                                        bool needs_f, bool needs_state) {
  const LinearScanCall call(c, f, sizes, c0, signs);
  const ScalarType dtype = c.scalar_type();
  check(dc, "the gradient of c", dtype, shape_of(c));
  check(dcn, "the gradient of the exit faces", dtype, call.faces);
  Tensor dz = make(c, true, shape_of(c)), df = make(c, needs_f, call.f), dc0 = make(c, needs_state, call.faces);
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    const LinearScanBackward<T> scan{call.per_unit, in<T>(f), in<T>(c0), in<T>(c), in<T>(dc), in<T>(dcn),
                                     out<T>(dz), out<T>(df), out<T>(dc0)};
    check(kernel(call.problem, scan, call.host()));
  };
  if (dtype == ScalarType::Float) run(0.0f, kernels().linear_backward32);
  else run(0.0, kernels().linear_backward64);
  return {dz, df, dc0};
}

// One checked call of the layer.
struct LinearLayerCall {
  Problem problem;
  bool even;
  std::vector<int64_t> y, faces, c;

  LinearLayerCall(const Tensor& x, const Tensor& weight, const Optional& bias, const Optional& sizes, const Optional& c0,
                  const std::string& rule, const std::vector<int64_t>& signs)
      : problem(lattice_of(x, sizes, signs, weight.dim() == 3 ? weight.size(0) : 0)) {
    Problem& p = problem;
    STD_TORCH_CHECK(rule == "softmax" || rule == "even", "ndrnn: the rule must be softmax or even, got ", rule.c_str());
    even = rule == "even";
    const int64_t rows = weight.size(1), gates = p.ndim + 3;
    STD_TORCH_CHECK(rows > 0 && rows % gates == 0, "ndrnn: weight must have ", gates, " rows for each unit, got ", rows);
    p.inputs = x.size(p.ndim + 1);
    p.hidden = rows / gates;
    const ScalarType dtype = x.scalar_type();
    check(weight, "weight", dtype, {p.directions, rows, p.inputs});
    check(bias, "bias", dtype, {p.directions, rows});
    faces = {p.directions, p.batch, face_points_of(p), p.hidden};
    check(c0, "the boundary state", dtype, faces);
    y = shape_of(x);
    y.back() = p.directions;
    y.push_back(p.hidden);
    c = {p.directions, p.batch, points_of(p), kernels().width(p.hidden, dtype == ScalarType::Float ? 4 : 8)};
  }

  Host host() const {
    return ::host(double(c[0]) * double(c[1]) * double(c[2]) * double((problem.ndim + 3) * problem.hidden) * double(problem.inputs + 8));
  }
};

std::tuple<Tensor, Tensor, Tensor> linear_layer(const Tensor& x, const Tensor& weight, const Optional& bias, const Optional& sizes,
                                                const Optional& c0, std::string rule, std::vector<int64_t> signs, bool exits,
                                                bool keep) {
  const LinearLayerCall call(x, weight, bias, sizes, c0, rule, signs);
  Tensor y = make(x, true, call.y), cn = make(x, exits, call.faces), c = make(x, keep, call.c);
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    const LinearLayer<T> layer{call.even, in<T>(x), in<T>(weight), in<T>(bias), in<T>(c0), out<T>(y), out<T>(cn), out<T>(c)};
    check(kernel(call.problem, layer, call.host()));
  };
  if (x.scalar_type() == ScalarType::Float) run(0.0f, kernels().linear_layer32);
  else run(0.0, kernels().linear_layer64);
  return {y, cn, c};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> linear_layer_backward(
    const Tensor& dy, const Optional& dcn, const Tensor& x, const Tensor& weight, const Optional& bias, const Optional& sizes,
    const Optional& c0, const Tensor& c, std::string rule, std::vector<int64_t> signs, bool needs_x, bool needs_weights,
    bool needs_state) {
  const LinearLayerCall call(x, weight, bias, sizes, c0, rule, signs);
  const ScalarType dtype = x.scalar_type();
  check(dy, "the gradient of y", dtype, call.y);
  check(dcn, "the gradient of the exit faces", dtype, call.faces);
  check(c, "c", dtype, call.c);
  Tensor dx = make(x, needs_x, shape_of(x)), dweight = make(x, needs_weights, shape_of(weight));
  Tensor dbias = make(x, needs_weights && bias, bias ? shape_of(*bias) : std::vector<int64_t>{0});
  Tensor dc0 = make(x, needs_state, call.faces);
  auto run = [&](auto zero, auto kernel) {
    using T = decltype(zero);
    // the kernel reads c alone of what the way there wrote
    const LinearLayer<T> layer{call.even, in<T>(x), in<T>(weight), in<T>(bias), in<T>(c0), nullptr, nullptr, const_cast<T*>(in<T>(c))};
    const LinearLayerBackward<T> back{layer, in<T>(dy), in<T>(dcn), out<T>(dx), out<T>(dweight), out<T>(dbias), out<T>(dc0)};
    check(kernel(call.problem, back, call.host()));
  };
  if (dtype == ScalarType::Float) run(0.0f, kernels().linear_layer_backward32);
  else run(0.0, kernels().linear_layer_backward64);
  return {dx, dweight, dbias, dc0};
}

}  // namespace
