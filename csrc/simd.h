// Vectors of the widest registers that this translation unit may use, and the functions that gates are made of.
//
// Written with the compilers' vector types, so that one source serves every instruction set. Everything lies in a
// namespace of that set's own; no standard library template is instantiated in these files, because the linker
// would merge such code across instruction sets.
#pragma once
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

// Gates are long chains of these; where the compiler stops inlining, vectors pass through memory.
#define NDRNN_INLINE inline __attribute__((always_inline))

namespace ndrnn::NDRNN_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kTileRows = 8;  // enough sums to hide the latency of one; more row pointers than this spill
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kTileRows = 6;  // of 16 registers: 12 sums, 2 weights, 1 broadcast input
#else
constexpr int kVectorBytes = 16;
constexpr int kTileRows = 6;
#endif

template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef int32_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr int kMantissa = 23;
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kExpLimit = 87.0f, kTanhLimit = 10.0f;
  static constexpr int kTerms = 7;  // 0.3466^8 / 8! = 5e-9
};

template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissa = 52;
  static constexpr double kLn2High = 6.93145751953125e-1, kLn2Low = 1.42860682030941723212e-6;
  static constexpr double kExpLimit = 708.0, kTanhLimit = 20.0;
  static constexpr int kTerms = 13;  // 0.3466^14 / 14! = 4e-18
};

template <class T>
using Vec = typename Simd<T>::V;

template <class T>
constexpr int kLanes = kVectorBytes / sizeof(T);

// Columns that one register tile covers; hidden units are padded to a multiple of it.
template <class T>
constexpr int kPanel = 2 * kLanes<T>;

template <class T>
NDRNN_INLINE Vec<T> splat(T value) {
  return value - Vec<T>{};
}

template <class T>
NDRNN_INLINE Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
NDRNN_INLINE void store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof v);
}

// The first `count` elements; the others are zero.
template <class T>
NDRNN_INLINE Vec<T> load_part(const T* from, int64_t count) {
  if (count >= kLanes<T>) return load(from);
  Vec<T> v{};
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}

template <class T>
NDRNN_INLINE void store_part(T* to, Vec<T> v, int64_t count) {
  if (count >= kLanes<T>) return store(to, v);
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

// v where the lane is below `count`, else zero: what padding holds must not spread, be it NaN.
template <class T>
NDRNN_INLINE Vec<T> first(Vec<T> v, int64_t count) {
  using I = typename Simd<T>::I;
  using Index = std::remove_reference_t<decltype(I{}[0])>;
  I lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return lane < Index(count) - I{} ? v : Vec<T>{};
}

// The sum over the lanes, halving again and again.
template <class T, int kBytes = kVectorBytes, class V>
NDRNN_INLINE T total(V v) {
  if constexpr (kBytes == 2 * sizeof(T)) {
    return v[0] + v[1];
  } else {
    typedef T Half __attribute__((vector_size(kBytes / 2)));
    Half low, high;
    std::memcpy(&low, &v, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    return total<T, kBytes / 2>(low + high);
  }
}

// Within [low, high]; NaN stays NaN. The processor's minimum gives its second operand where one is NaN.
template <class T>
NDRNN_INLINE Vec<T> clamp(Vec<T> x, T low, T high) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return Vec<T>(_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), __m512(x))));
  else return Vec<T>(_mm512_min_pd(_mm512_set1_pd(high), _mm512_max_pd(_mm512_set1_pd(low), __m512d(x))));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return Vec<T>(_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), __m256(x))));
  else return Vec<T>(_mm256_min_pd(_mm256_set1_pd(high), _mm256_max_pd(_mm256_set1_pd(low), __m256d(x))));
#else
  x = x < splat(low) ? splat(low) : x;
  return x > splat(high) ? splat(high) : x;
#endif
}

// 1 / k!, as constants of the compiler.
template <class T>
struct InverseFactorials {
  T of[16] = {1};
  constexpr InverseFactorials() {
    for (int k = 1; k < 16; ++k) of[k] = of[k - 1] / T(k);
  }
};

template <class T>
constexpr InverseFactorials<T> kInverseFactorial{};

// exp(x) = scale + scale * rest, with rest = exp(f) - 1 exact to rounding also where f is tiny.
template <class T>
struct ExpParts {
  Vec<T> scale, rest;
};

template <class T>
NDRNN_INLINE ExpParts<T> exp_parts(Vec<T> x) {
  using S = Simd<T>;
  const Vec<T> shifted = x * splat(T(1.4426950408889634074)) + splat(S::kRound);
  const Vec<T> n = shifted - splat(S::kRound);
  Vec<T> f = x - n * splat(S::kLn2High);
  f = f - n * splat(S::kLn2Low);
  Vec<T> series = splat(kInverseFactorial<T>.of[S::kTerms]);
#pragma GCC unroll 16
  for (int k = S::kTerms - 1; k >= 2; --k) series = series * f + splat(kInverseFactorial<T>.of[k]);
  const Vec<T> one = splat(T(1));
  typename S::I bits, unit;
  std::memcpy(&bits, &shifted, sizeof bits);
  std::memcpy(&unit, &one, sizeof unit);
  bits = (bits << S::kMantissa) + unit;
  ExpParts<T> parts;
  std::memcpy(&parts.scale, &bits, sizeof bits);
  parts.rest = f + f * f * series;
  return parts;
}

template <class T>
NDRNN_INLINE Vec<T> exp(Vec<T> x) {
  constexpr T kLimit = Simd<T>::kExpLimit;
  const ExpParts<T> e = exp_parts<T>(clamp<T>(x, -kLimit, kLimit));
  return e.scale * e.rest + e.scale;
}

template <class T>
NDRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> one = splat(T(1));
  return one / (one + exp<T>(-x));
}

// tanh(x) = m / (m + 2) with m = exp(2x) - 1: no digits are lost near 0.
template <class T>
NDRNN_INLINE Vec<T> tanh(Vec<T> x) {
  constexpr T kLimit = 2 * Simd<T>::kTanhLimit;
  const ExpParts<T> e = exp_parts<T>(clamp<T>(x + x, -kLimit, kLimit));
  const Vec<T> m = e.scale * e.rest + (e.scale - splat(T(1)));
  return m / (m + splat(T(2)));
}

}  // namespace ndrnn::NDRNN_ISA
