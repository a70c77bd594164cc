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
// Rows of a tile of V vectors: enough sums to hide the latency of one; more row pointers than this spill.
template <int V>
constexpr int kTileRows = 8;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
// Of 16 registers: 12 sums, 2 weights, 1 broadcast input.
template <int V>
constexpr int kTileRows = V == 1 ? 10 : 6;
#else
constexpr int kVectorBytes = 16;
template <int V>
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
  // Where states and gradients saturate, and where they do if memories enter matrix products: ndrnn/saturation.py.
  static constexpr float kStateLimit = 0x1p80f, kFedStateLimit = 0x1p48f;
  // exp(f) = 1 + f + f^2 (s0 + s1 f + ...) for |f| <= ln(2) / 2, the polynomial of least error: 3e-9
  static constexpr int kTerms = 5;
  static constexpr float kSeries[] = {0.49999993447796f, 0.16666520631709f, 0.041668388045314f, 0.0083687168797281f,
                                      0.0013814598646664f};
};

template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissa = 52;
  static constexpr double kLn2High = 6.93145751953125e-1, kLn2Low = 1.42860682030941723212e-6;
  static constexpr double kExpLimit = 708.0, kTanhLimit = 20.0;
  static constexpr double kStateLimit = 0x1p640, kFedStateLimit = 0x1p384;
  // as for float; the error is 4e-18
  static constexpr int kTerms = 10;
  static constexpr double kSeries[] = {
      0.50000000000000106271,   0.16666666666666412523,    0.04166666666653015859,   0.0083333333334944616641,
      0.0013888888943630112946, 0.00019841269506578687653, 2.4801493098906550659e-5, 2.7557586373840163694e-6,
      2.7630248379211443975e-7, 2.5000061602835666699e-8};
};

template <class T>
using Vec = typename Simd<T>::V;

template <class T>
constexpr int kLanes = kVectorBytes / sizeof(T);

// Columns that a register tile covers: a panel of two vectors, or of one where the hidden units fill an odd number of
// them. Hidden units are padded to whole panels.
template <class T>
inline int64_t panel_for(int64_t hidden) {
  const int64_t vectors = (hidden + kLanes<T> - 1) / kLanes<T>;
  return vectors % 2 == 1 ? kLanes<T> : 2 * kLanes<T>;
}

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

// v, or zero where a state has saturated at the limit.
template <class T>
NDRNN_INLINE Vec<T> unless_saturated(Vec<T> state, T limit, Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const __mmask16 out = _mm512_cmp_ps_mask(_mm512_abs_ps(__m512(state)), _mm512_set1_ps(limit), _CMP_GE_OQ);
    return Vec<T>(_mm512_mask_mov_ps(__m512(v), out, _mm512_setzero_ps()));
  } else {
    const __mmask8 out = _mm512_cmp_pd_mask(_mm512_abs_pd(__m512d(state)), _mm512_set1_pd(limit), _CMP_GE_OQ);
    return Vec<T>(_mm512_mask_mov_pd(__m512d(v), out, _mm512_setzero_pd()));
  }
#else
  v = state >= splat(limit) ? Vec<T>{} : v;
  return state <= splat(-limit) ? Vec<T>{} : v;
#endif
}

template <class T, int kTerms>
NDRNN_INLINE Vec<T> polynomial(const T (&coefficients)[kTerms], Vec<T> f) {
  Vec<T> sum = splat(coefficients[kTerms - 1]);
#pragma GCC unroll 16
  for (int k = kTerms - 2; k >= 0; --k) sum = sum * f + splat(coefficients[k]);
  return sum;
}

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
  const Vec<T> series = polynomial<T, S::kTerms>(S::kSeries, f);
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

#if defined(__AVX512F__)
// 2^(j/16). With these in two registers half as many terms of the series do. The roots are rounded, so that near 1 few
// digits of exp(x) - 1 would be left: tanh does without.
alignas(64) constexpr double kRoots[16] = {
    1.0, 1.04427378242741384, 1.09050773266525766, 1.13878863475669165,
    1.18920711500272107, 1.24185781207348405, 1.29683955465100967, 1.35425554693689273,
    1.41421356237309505, 1.47682614593949931, 1.54221082540794082, 1.61049033194925431,
    1.68179283050742909, 1.75625216037329948, 1.83400808640934246, 1.91520656139714729,
};

NDRNN_INLINE Vec<double> exp_by_roots(Vec<double> x) {
  using S = Simd<double>;
  // exp(f) as above for |f| <= ln(2) / 32, with an error of 1e-17
  constexpr double kSeries[] = {0.49999999999999601985, 0.16666666664408962707, 0.041666666693356380166,
                                0.0083334721980671549013, 0.001388859347673857937};
  const Vec<double> shifted = x * splat(16 * 1.4426950408889634074) + splat(S::kRound);
  const Vec<double> n = shifted - splat(S::kRound);
  Vec<double> f = x - n * splat(S::kLn2High / 16);
  f = f - n * splat(S::kLn2Low / 16);
  S::I bits, root;
  std::memcpy(&bits, &shifted, sizeof bits);
  // the last four bits say which root, those before which power of 2
  const __m512d roots = _mm512_permutex2var_pd(_mm512_load_pd(kRoots), __m512i(bits), _mm512_load_pd(kRoots + 8));
  std::memcpy(&root, &roots, sizeof root);
  bits = (bits >> 4 << S::kMantissa) + root;
  Vec<double> scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return scale * (f + f * f * polynomial<double, 5>(kSeries, f)) + scale;
}
#endif

template <class T>
NDRNN_INLINE Vec<T> exp(Vec<T> x) {
  constexpr T kLimit = Simd<T>::kExpLimit;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 8) return exp_by_roots(clamp<T>(x, -kLimit, kLimit));
#endif
  const ExpParts<T> e = exp_parts<T>(clamp<T>(x, -kLimit, kLimit));
  return e.scale * e.rest + e.scale;
}

template <class T>
NDRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> one = splat(T(1));
  return one / (one + exp<T>(-x));
}

// Exactly zero where the least value of sigmoid is reached, for gates that memories enter: the gradient of a peephole
// has the square of a memory, which may be so large that the least value shows.
template <class T>
NDRNN_INLINE Vec<T> sigmoid_down_to_zero(Vec<T> x) {
  return x <= splat(-Simd<T>::kExpLimit) ? Vec<T>{} : sigmoid<T>(x);
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
