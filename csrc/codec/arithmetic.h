// The codec's arithmetic: floating-point results that are the same to the last bit on every processor.
//
// Nothing here depends on how wide vectors are. An operation is one of IEEE 754 on binary32, correctly rounded: add,
// subtract, multiply, divide, square root, fused multiply-add. The files that include this are compiled without
// contraction, so that two operations are fused where fma() is written and nowhere else. docs/codec.md repeats these
// definitions; a change of any result is a new version of the format.
#pragma once
#include "../simd.h"

namespace ndrnn::NDRNN_ISA {

using F = Vec<float>;
using I = Simd<float>::I;
constexpr int kWide = kLanes<float>;

NDRNN_INLINE F all(float value) { return value - F{}; }

NDRNN_INLINE I bits_of(F x) {
  I bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

NDRNN_INLINE F float_of(I bits) {
  F x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// a * b + c, rounded once.
#if defined(__AVX512F__)
NDRNN_INLINE F fma(F a, F b, F c) { return F(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
#elif defined(__AVX2__)
NDRNN_INLINE F fma(F a, F b, F c) { return F(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
#elif defined(__FP_FAST_FMAF)
NDRNN_INLINE F fma(F a, F b, F c) {
  F sum;
  for (int i = 0; i < kWide; ++i) sum[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return sum;
}
#else
// Without an instruction for it: the product is exact in binary64; their sum is rounded to odd there, after which
// rounding it to binary32 is as if it were exact (Boldo & Melquiond 2008).
NDRNN_INLINE F fma(F a, F b, F c) {
  typedef double D __attribute__((vector_size(kWide * sizeof(double))));
  typedef int64_t J __attribute__((vector_size(kWide * sizeof(int64_t))));
  const D product = __builtin_convertvector(a, D) * __builtin_convertvector(b, D), addend = __builtin_convertvector(c, D);
  const D sum = product + addend, back = sum - product;
  const D rest = (product - (sum - back)) + (addend - back);  // what was rounded off, exactly (Knuth's TwoSum)
  J bits;
  std::memcpy(&bits, &sum, sizeof bits);
  const J even = (bits & 1) == 0, inexact = rest != 0.0, outward = (rest > 0.0) == (sum > 0.0);
  bits += (even & inexact) & (outward ? J{} + 1 : J{} - 1);
  D odd;
  std::memcpy(&odd, &bits, sizeof odd);
  return __builtin_convertvector(odd, F);
}
#endif

NDRNN_INLINE F within(F x, float low, float high) {
  x = x < all(low) ? all(low) : x;
  return x > all(high) ? all(high) : x;
}

template <int kTerms>
NDRNN_INLINE F horner(const float (&coefficients)[kTerms], F x) {
  F sum = all(coefficients[kTerms - 1]);
#pragma GCC unroll 16
  for (int k = kTerms - 2; k >= 0; --k) sum = fma(sum, x, all(coefficients[k]));
  return sum;
}

// exp(x) = scale + scale * rest for |x| <= 87: n = round(x / ln 2), f = x - n ln 2 in two steps, and a polynomial.
struct Exponential {
  F scale, rest;
};

NDRNN_INLINE Exponential exponential_parts(F x) {
  constexpr float kLog2E = 1.44269502f, kRound = 12582912.0f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kSeries[] = {0.5f, 0.166665211f, 0.0416683890f, 0.00836871937f, 0.00138145988f};
  const F shifted = fma(x, all(kLog2E), all(kRound)), n = shifted - all(kRound);
  const F f = fma(n, all(-kLn2Low), fma(n, all(-kLn2High), x));
  return {float_of((bits_of(shifted) << 23) + bits_of(all(1.0f))), fma(f * f, horner(kSeries, f), f)};
}

NDRNN_INLINE F exponential(F x, float limit = 87.0f) {
  const Exponential e = exponential_parts(within(x, -limit, limit));
  return fma(e.scale, e.rest, e.scale);
}

NDRNN_INLINE F logistic(F x) { return all(1.0f) / (all(1.0f) + exponential(-x)); }

// m / (m + 2) with m = exp(2x) - 1
NDRNN_INLINE F tangent(F x) {
  const Exponential e = exponential_parts(within(x + x, -20.0f, 20.0f));
  const F m = fma(e.scale, e.rest, e.scale - all(1.0f));
  return m / (m + all(2.0f));
}

// The normal distribution's mass beyond z >= 0: exp(-z^2 / 2) times a polynomial in 1 / (1 + 0.35 z), within a
// relative error of 4e-6 up to z = 13, where it stays.
NDRNN_INLINE F normal_tail(F z) {
  constexpr float kMills[] = {-2.73142541e-5f, 0.140270323f,   0.13335517f,  0.155961335f,
                              -0.0170232560f,  0.240640730f, -0.202119291f, 0.0489424579f};
  z = z > all(13.0f) ? all(13.0f) : z;
  const F t = all(1.0f) / fma(z, all(0.35f), all(1.0f));
  return exponential(z * z * all(-0.5f)) * horner(kMills, t);
}

}  // namespace ndrnn::NDRNN_ISA
