// The two products of a scan, in register tiles of at most kTileRows rows and a panel of V vectors.
#pragma once
#include "simd.h"

namespace ndrnn::NDRNN_ISA {

// One factor of a product by rows: `length` elements from `offset` on behind each of the block's row pointers.
template <class T>
struct Segment {
  const T* const* rows;
  int64_t offset, length;
};

// Where a product goes: rows at a fixed distance, or anywhere.
template <class T>
struct Strided {
  T* first;
  int64_t stride;
  T* operator[](int64_t row) const { return first + row * stride; }
};

template <class T>
struct Scattered {
  T* const* rows;
  int64_t offset;
  T* operator[](int64_t row) const { return rows[row] + offset; }
};

template <class T, int V>
NDRNN_INLINE void load_all(Vec<T>* to, const T* from) {
  for (int v = 0; v < V; ++v) to[v] = load(from + v * kLanes<T>);
}

template <class T, int V>
NDRNN_INLINE void store_all(T* to, const Vec<T>* from) {
  for (int v = 0; v < V; ++v) store(to + v * kLanes<T>, from[v]);
}

// How long a run of weights may be to stay in the first-level cache while all rows of a block pass by.
constexpr int64_t kRun = 20480 / (2 * kVectorBytes);

template <class T, int V, int R, class Out>
inline void product_tile(const Segment<T>* segments, int count, int64_t row, const T* weights, const T* bias, Out out) {
  Vec<T> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) load_all<T, V>(sum[r], bias ? bias : out[row + r]);
  for (int s = 0; s < count; ++s) {
    const T* a[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) a[r] = segments[s].rows[row + r] + segments[s].offset;
    const int64_t length = segments[s].length;
    for (int64_t k = 0; k < length; ++k, weights += V * kLanes<T>) {
      Vec<T> w[V];
      load_all<T, V>(w, weights);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec<T> x = splat(a[r][k]);
        for (int v = 0; v < V; ++v) sum[r][v] += x * w[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) store_all<T, V>(out[row + r], sum[r]);
}

template <class T, int V, int R, class Out>
inline void product_tiles(int rows_in_tile, const Segment<T>* segments, int count, int64_t row, const T* weights,
                          const T* bias, Out out) {
  if (rows_in_tile == R) return product_tile<T, V, R>(segments, count, row, weights, bias, out);
  if constexpr (R > 1) product_tiles<T, V, R - 1>(rows_in_tile, segments, count, row, weights, bias, out);
}

// out[row][0 .. panel) = bias (or what out holds, without one) + rows of the segments times packed weights.
// The rows are shared out evenly over the tiles: 7 rows are 4 + 3, never 6 + 1.
template <class T, int V, class Out>
void product(const Segment<T>* segments, int count, int64_t rows, const T* weights, const T* bias, Out out) {
  constexpr int kRows = kTileRows<V>;
  const int64_t tiles = (rows + kRows - 1) / kRows;
  for (int64_t tile = 0, row = 0; tile < tiles; ++tile) {
    const int64_t next = (tile + 1) * rows / tiles;
    product_tiles<T, V, kRows>(int(next - row), segments, count, row, weights, bias, out);
    row = next;
  }
}

// sum[k][0 .. panel) += over points: left[point][k] * right[point][0 .. panel), for R rows k.
template <class T, int V, int R>
inline void outer_tile(int64_t points, const T* left, int64_t left_stride, const T* const* right, int64_t column,
                       T* sums) {
  constexpr int64_t kPanel = V * kLanes<T>;
  Vec<T> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) load_all<T, V>(sum[r], sums + r * kPanel);
  for (int64_t p = 0; p < points; ++p, left += left_stride) {
    Vec<T> d[V];
    load_all<T, V>(d, right[p] + column);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat(left[r]);
      for (int v = 0; v < V; ++v) sum[r][v] += x * d[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) store_all<T, V>(sums + r * kPanel, sum[r]);
}

template <class T, int V, int R>
inline void outer_tiles(int rows_in_tile, int64_t points, const T* left, int64_t left_stride, const T* const* right,
                        int64_t column, T* sums) {
  if (rows_in_tile == R) return outer_tile<T, V, R>(points, left, left_stride, right, column, sums);
  if constexpr (R > 1) outer_tiles<T, V, R - 1>(rows_in_tile, points, left, left_stride, right, column, sums);
}

// The weight gradient: sums (rows, panel) += left (points, rows) transposed times one panel of right.
template <class T, int V>
void outer(int64_t rows, int64_t points, const T* left, int64_t left_stride, const T* const* right, int64_t column,
           T* sums) {
  constexpr int kRows = kTileRows<V>;
  const int64_t tiles = (rows + kRows - 1) / kRows;
  for (int64_t tile = 0, row = 0; tile < tiles; ++tile) {
    const int64_t next = (tile + 1) * rows / tiles;
    outer_tiles<T, V, kRows>(int(next - row), points, left + row, left_stride, right, column,
                                 sums + row * V * kLanes<T>);
    row = next;
  }
}

// out[row][column] = rows of `length` elements times the `columns` rows of weights, for few columns: a panel of them
// would mostly be padding. The length is a multiple of a vector's.
template <class T, int R, int Q>
inline void dots_tile(const T* const* rows, int64_t length, const T* weights, T* out, int64_t stride) {
  Vec<T> sum[R][Q] = {};
  for (int64_t i = 0; i < length; i += kLanes<T>) {
    Vec<T> w[Q];
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) w[q] = load(weights + q * length + i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = load(rows[r] + i);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) sum[r][q] += x * w[q];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < Q; ++q) out[r * stride + q] = total<T>(sum[r][q]);
}

template <class T>
void dots(const T* const* rows, int64_t count, int64_t length, const T* weights, int64_t columns, T* out,
          int64_t stride) {
  constexpr int kSide = kTileRows<2> > 6 ? 4 : 2;
  for (int64_t q = 0; q < columns; q += q + kSide <= columns ? kSide : 1)
    for (int64_t r = 0; r < count; r += r + kSide <= count ? kSide : 1) {
      const T* w = weights + q * length;
      T* to = out + r * stride + q;
      const bool tall = r + kSide <= count, wide = q + kSide <= columns;
      if (tall && wide) dots_tile<T, kSide, kSide>(rows + r, length, w, to, stride);
      else if (tall) dots_tile<T, kSide, 1>(rows + r, length, w, to, stride);
      else if (wide) dots_tile<T, 1, kSide>(rows + r, length, w, to, stride);
      else dots_tile<T, 1, 1>(rows + r, length, w, to, stride);
    }
}

}  // namespace ndrnn::NDRNN_ISA
