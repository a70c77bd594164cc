// The cells: what happens at one vector of hidden units of one point, forward and backward. To add a cell, write
// such a struct and enter it in the list at the end; nothing else knows what a cell computes.
//
// A cell computes in lanes: blocks of hidden units with one pre-activation each. A lane is a gate, except that the
// GRU splits its candidate into the input's part and one part an axis, because reset gates come between them.
//
// forward(at, n) reads   at.in(lane)          pre-activation
//                        at.c(k), at.h(k)     states of the predecessor along axis k
//                        at.extra(row)        row of the additional parameter
//               writes   at.keep(lane, v)     what the backward pass will want (kKept lanes)
//                        at.put_h(v), at.put_c(v)
// backward(at, n) reads  at.kept(lane), at.c_new(), at.h_new(), at.c(k), at.h(k), at.extra(row)
//                        at.dh(), at.dc()     gradients of the point's states
//                writes  at.delta(lane, v)    gradient of the pre-activation
//                        at.carry(k, v)       what goes directly into dc (dh for the GRU) of predecessor k
//                        at.add_extra(row, v)
//
// A state that can grow without end is put within its limits, at.limited(v), and the gradient by one that stands there
// is zero, at.unless_saturated(state, v). at.dh() and at.dc() are limited, and so must be what multiplies one of them
// with a state: never zero times infinity.
//
// n is an integer or an integral constant, so that the loops over axes unroll for the usual n.
#pragma once
#include "simd.h"

namespace ndrnn::NDRNN_ISA {

constexpr int kMaxAxes = 8;

// Which products enter a lane: bit 0 the input's, bit 1 + k those of axis k.
constexpr uint32_t kAllProducts = ~0u;

// A convex combination of the predecessors' memories; the last axis has the logit 0.
template <class A, class N>
struct Mix {
  typename A::V share[kMaxAxes], old;

  Mix(A& at, int first_lane, N n) {
    using V = typename A::V;
    const V one = splat(typename A::T(1));
    V last = one;
    if constexpr (A::kWayBack) {
      for (int k = 0; k < n - 1; ++k) last = last - (share[k] = at.kept(first_lane + k));
    } else if (n > 1) {
      V top = V{};
      for (int k = 0; k < n - 1; ++k) top = at.in(first_lane + k) > top ? at.in(first_lane + k) : top;
      last = exp<typename A::T>(-top);
      V sum = last;
      for (int k = 0; k < n - 1; ++k) sum += share[k] = exp<typename A::T>(at.in(first_lane + k) - top);
      const V scale = one / sum;
      for (int k = 0; k < n - 1; ++k) at.keep(first_lane + k, share[k] = share[k] * scale);
      last = last * scale;
    }
    share[n - 1] = last;
    old = V{};
    for (int k = 0; k < n; ++k) old += share[k] * at.c(k);
  }

  // Given the gradient of the mix.
  void backward(A& at, int first_lane, N n, typename A::V d_old) {
    for (int k = 0; k < n - 1; ++k) at.delta(first_lane + k, d_old * share[k] * (at.c(k) - old));
    for (int k = 0; k < n; ++k) at.carry(k, d_old * share[k]);
  }
};

template <bool kRelu>
struct Rnn {
  static constexpr bool kMemory = false, kCarryToH = false, kFeedsMemory = false, kReadsH = false;
  static constexpr int lanes(int) { return 1; }
  static constexpr int kept(int) { return 0; }
  static constexpr int extra_rows(int) { return 0; }
  static constexpr uint32_t products(int, int) { return kAllProducts; }

  template <class A, class N>
  static void forward(A& at, N) {
    using T = typename A::T;
    const auto a = at.in(0);
    if constexpr (kRelu) at.put_h(at.limited(a < splat(T(0)) ? splat(T(0)) : a));
    else at.put_h(tanh<T>(a));
  }
  template <class A, class N>
  static void backward(A& at, N n) {
    using T = typename A::T;
    const auto h = at.h_new(), dh = at.dh();
    if constexpr (kRelu) at.delta(0, at.unless_saturated(h, h <= splat(T(0)) ? splat(T(0)) : dh));
    else at.delta(0, dh * (splat(T(1)) - h * h));
    (void)n;
  }
};

template <bool kPeepholes>
struct Lstm {
  static constexpr bool kMemory = true, kCarryToH = false, kFeedsMemory = false, kReadsH = false;
  static constexpr int lanes(int n) { return n + 3; }
  static constexpr int kept(int n) { return n + 3; }
  static constexpr int extra_rows(int n) { return kPeepholes ? n + 2 : 0; }
  static constexpr uint32_t products(int, int) { return kAllProducts; }

  template <class T>
  static Vec<T> gate(Vec<T> a) {
    if constexpr (kPeepholes) return sigmoid_down_to_zero<T>(a);
    else return sigmoid<T>(a);
  }
  template <class A, class N>
  static void forward(A& at, N n) {
    using T = typename A::T;
    auto a_i = at.in(0);
    if constexpr (kPeepholes) {
      auto sum = at.c(0);
      for (int k = 1; k < n; ++k) sum += at.c(k);
      a_i += at.extra(0) * sum;
    }
    const auto i = gate<T>(a_i), g = tanh<T>(at.in(n + 1));
    auto c = i * g;
    for (int k = 0; k < n; ++k) {
      auto a_f = at.in(1 + k);
      if constexpr (kPeepholes) a_f += at.extra(1 + k) * at.c(k);
      const auto f = gate<T>(a_f);
      at.keep(1 + k, f);
      c += f * at.c(k);
    }
    c = at.limited(c);
    auto a_o = at.in(n + 2);
    if constexpr (kPeepholes) a_o += at.extra(n + 1) * c;
    const auto o = gate<T>(a_o);
    at.keep(0, i);
    at.keep(n + 1, g);
    at.keep(n + 2, o);
    at.put_c(c);
    at.put_h(o * tanh<T>(c));
  }
  template <class A, class N>
  static void backward(A& at, N n) {
    using T = typename A::T;
    const auto one = splat(T(1));
    const auto i = at.kept(0), g = at.kept(n + 1), o = at.kept(n + 2);
    const auto dh = at.dh(), c = at.c_new(), squashed = tanh<T>(c);
    const auto d_o = dh * squashed * o * (one - o);
    auto dc = at.dc() + dh * o * (one - squashed * squashed);
    if constexpr (kPeepholes) {
      dc += d_o * at.extra(n + 1);
      at.add_extra(n + 1, d_o * c);
    }
    dc = at.unless_saturated(c, dc);
    const auto d_i = dc * g * i * (one - i);
    at.delta(n + 2, d_o);
    at.delta(0, d_i);
    at.delta(n + 1, dc * i * (one - g * g));
    if constexpr (kPeepholes) {
      auto sum = at.c(0);
      for (int k = 1; k < n; ++k) sum += at.c(k);
      at.add_extra(0, d_i * sum);
    }
    for (int k = 0; k < n; ++k) {
      const auto f = at.kept(1 + k), d_f = at.limited(dc * at.c(k)) * f * (one - f);
      auto carry = dc * f;
      at.delta(1 + k, d_f);
      if constexpr (kPeepholes) {
        carry += d_i * at.extra(0) + d_f * at.extra(1 + k);
        at.add_extra(1 + k, d_f * at.c(k));
      }
      at.carry(k, carry);
    }
  }
};

struct Stable {
  static constexpr bool kMemory = true, kCarryToH = false, kFeedsMemory = false, kReadsH = false;
  static constexpr int lanes(int n) { return n + 3; }
  static constexpr int kept(int n) { return n + 3; }
  static constexpr int extra_rows(int) { return 0; }
  static constexpr uint32_t products(int, int) { return kAllProducts; }

  template <class A, class N>
  static void forward(A& at, N n) {
    using T = typename A::T;
    const auto i = sigmoid<T>(at.in(0)), f = sigmoid<T>(at.in(1)), g = tanh<T>(at.in(n + 1));
    const auto o = sigmoid<T>(at.in(n + 2));
    const Mix<A, N> mix(at, 2, n);
    const auto c = i * g + f * mix.old;
    at.keep(0, i);
    at.keep(1, f);
    at.keep(n + 1, g);
    at.keep(n + 2, o);
    at.put_c(c);
    at.put_h(o * tanh<T>(c));
  }
  template <class A, class N>
  static void backward(A& at, N n) {
    using T = typename A::T;
    const auto one = splat(T(1));
    const auto i = at.kept(0), f = at.kept(1), g = at.kept(n + 1), o = at.kept(n + 2);
    const auto dh = at.dh(), squashed = tanh<T>(at.c_new());
    const auto dc = at.dc() + dh * o * (one - squashed * squashed);
    Mix<A, N> mix(at, 2, n);
    at.delta(n + 2, dh * squashed * o * (one - o));
    at.delta(0, dc * g * i * (one - i));
    at.delta(n + 1, dc * i * (one - g * g));
    at.delta(1, dc * mix.old * f * (one - f));
    mix.backward(at, 2, n, dc * f);
  }
};

struct Leaky {
  static constexpr bool kMemory = true, kCarryToH = false, kFeedsMemory = false, kReadsH = false;
  static constexpr int lanes(int n) { return n + 3; }
  static constexpr int kept(int n) { return n + 3; }
  static constexpr int extra_rows(int) { return 0; }
  static constexpr uint32_t products(int, int) { return kAllProducts; }

  template <class A, class N>
  static void forward(A& at, N n) {
    using T = typename A::T;
    const auto f = sigmoid<T>(at.in(0)), g = tanh<T>(at.in(n)), o1 = sigmoid<T>(at.in(n + 1));
    const auto o2 = sigmoid<T>(at.in(n + 2));
    const Mix<A, N> mix(at, 1, n);
    const auto c = (splat(T(1)) - f) * g + f * mix.old;
    at.keep(0, f);
    at.keep(n, g);
    at.keep(n + 1, o1);
    at.keep(n + 2, o2);
    at.put_c(c);
    at.put_h(tanh<T>(o1 * c + o2 * mix.old));
  }
  template <class A, class N>
  static void backward(A& at, N n) {
    const auto one = splat(typename A::T(1));
    const auto f = at.kept(0), g = at.kept(n), o1 = at.kept(n + 1), o2 = at.kept(n + 2);
    const auto c = at.c_new(), h = at.h_new(), da = at.dh() * (one - h * h);
    const auto dc = at.dc() + da * o1;
    Mix<A, N> mix(at, 1, n);
    at.delta(n + 1, da * c * o1 * (one - o1));
    at.delta(n + 2, da * mix.old * o2 * (one - o2));
    at.delta(n, dc * (one - f) * (one - g * g));
    at.delta(0, dc * (mix.old - g) * f * (one - f));
    mix.backward(at, 1, n, dc * f + da * o2);
  }
};

template <bool kExtended>
struct Spatial {
  static constexpr bool kMemory = true, kCarryToH = false, kFeedsMemory = kExtended, kReadsH = false;
  static constexpr int lanes(int n) { return n + 3; }
  static constexpr int kept(int n) { return n + 3; }
  static constexpr int extra_rows(int) { return 0; }
  static constexpr uint32_t products(int, int) { return kAllProducts; }

  template <class A, class N>
  static void forward(A& at, N n) {
    using T = typename A::T;
    const auto i = sigmoid<T>(at.in(0)), g = tanh<T>(at.in(n + 1)), o = sigmoid<T>(at.in(n + 2));
    auto c = g * i;
    for (int k = 0; k < n; ++k) {
      const auto f = sigmoid<T>(at.in(1 + k));
      at.keep(1 + k, f);
      c += f * at.c(k);
    }
    c = at.limited(c);
    at.keep(0, i);
    at.keep(n + 1, g);
    at.keep(n + 2, o);
    at.put_c(c);
    at.put_h(tanh<T>(o * c));
  }
  template <class A, class N>
  static void backward(A& at, N n) {
    const auto one = splat(typename A::T(1));
    const auto i = at.kept(0), g = at.kept(n + 1), o = at.kept(n + 2), h = at.h_new();
    const auto c = at.c_new(), da = at.dh() * (one - h * h), dc = at.unless_saturated(c, at.dc() + da * o);
    at.delta(n + 2, at.limited(da * c) * o * (one - o));
    at.delta(0, dc * g * i * (one - i));
    at.delta(n + 1, dc * i * (one - g * g));
    for (int k = 0; k < n; ++k) {
      const auto f = at.kept(1 + k);
      at.delta(1 + k, at.limited(dc * at.c(k)) * f * (one - f));
      at.carry(k, dc * f);
    }
  }
};

// Lanes r1..rn, z1..zn, the input's part of the candidate, and its part of each axis.
struct Gru {
  static constexpr bool kMemory = false, kCarryToH = true, kFeedsMemory = false, kReadsH = true;
  static constexpr int lanes(int n) { return 3 * n + 1; }
  static constexpr int kept(int n) { return 3 * n + 1; }
  static constexpr int extra_rows(int) { return 0; }
  static constexpr uint32_t products(int lane, int n) {
    return lane < 2 * n ? kAllProducts : 1u << (lane - 2 * n);
  }

  template <class A, class N>
  static void forward(A& at, N n) {
    using T = typename A::T;
    using V = typename A::V;
    V candidate = at.in(2 * n), top = V{};
    for (int k = 0; k < n; ++k) {
      const V r = sigmoid<T>(at.in(k)), part = at.in(2 * n + 1 + k), z = at.in(n + k);
      candidate += r * part;
      top = z > top ? z : top;
      at.keep(k, r);
      at.keep(2 * n + 1 + k, part);
    }
    candidate = tanh<T>(candidate);
    V share[kMaxAxes], sum = exp<T>(-top);
    V h = sum * candidate;
    for (int k = 0; k < n; ++k) sum += share[k] = exp<T>(at.in(n + k) - top);
    for (int k = 0; k < n; ++k) h += share[k] * at.h(k);
    const V scale = splat(T(1)) / sum;
    for (int k = 0; k < n; ++k) at.keep(n + k, share[k] * scale);
    at.keep(2 * n, candidate);
    at.put_h(h * scale);
  }
  template <class A, class N>
  static void backward(A& at, N n) {
    using V = typename A::V;
    const V one = splat(typename A::T(1));
    const V dh = at.dh(), h = at.h_new(), candidate = at.kept(2 * n);
    V rest = one;
    for (int k = 0; k < n; ++k) {
      const V z = at.kept(n + k);
      rest -= z;
      at.delta(n + k, dh * z * (at.h(k) - h));
      at.carry(k, dh * z);
    }
    const V d_candidate = dh * rest * (one - candidate * candidate);
    at.delta(2 * n, d_candidate);
    for (int k = 0; k < n; ++k) {
      const V r = at.kept(k);
      at.delta(k, d_candidate * at.kept(2 * n + 1 + k) * r * (one - r));
      at.delta(2 * n + 1 + k, d_candidate * r);
    }
  }
};

// Calls visit(name, Cell{}) for every cell.
template <class Visit>
void for_each_cell(Visit&& visit) {
  visit("rnn_tanh", Rnn<false>{});
  visit("rnn_relu", Rnn<true>{});
  visit("lstm", Lstm<false>{});
  visit("lstm_peephole", Lstm<true>{});
  visit("stable", Stable{});
  visit("leaky", Leaky{});
  visit("spatial", Spatial<false>{});
  visit("spatial_extended", Spatial<true>{});
  visit("gru", Gru{});
}

}  // namespace ndrnn::NDRNN_ISA
