// What the linear recurrences share: how a sample is walked, and what belongs to no point.
//
// A linear recurrence has no product within it and works element by element. So a sample is walked line by line in the
// order of memory instead of wavefront by wavefront, and work is shared out over samples, directions and units.
#pragma once
#include "gates.h"
#include "walk.h"

namespace ndrnn::NDRNN_ISA {

// One sample as one direction sees it, as lines along the last axis.
struct Course {
  int64_t sample, lines, length, origin;
  int64_t size[kMaxNdim], step[kMaxNdim];

  Course(const Plan& plan, int64_t direction, int64_t number) : sample(number), lines(1), origin(0), size{}, step{} {
    const int n = plan.problem.ndim;
    const int64_t* signs = plan.problem.signs + direction * n;
    for (int k = 0; k < n; ++k) {
      size[k] = plan.size(sample, k);
      step[k] = signs[k] * plan.stride[k];
      if (signs[k] < 0) origin += (size[k] - 1) * plan.stride[k];
      if (k < n - 1) lines *= size[k];
    }
    length = size[n - 1];
    if (length == 0) lines = 0;
  }
  int64_t points() const { return lines * length; }
};

// A line of a course. Its points lie at at, at + step, ...
struct Line {
  int64_t at;     // of its first point in the lattice, row-major
  int64_t other;  // in the lattice without its first axis, as the direction sees it
  int64_t place;  // in the lattice, as the direction sees it
  int64_t position[kMaxNdim];

  Line(const Plan& plan, const Course& course, int64_t number) : at(course.origin), other(0), place(0), position{} {
    for (int k = plan.problem.ndim - 2; k >= 0; --k) {
      position[k] = number % course.size[k];
      number /= course.size[k];
      at += position[k] * course.step[k];
      place += position[k] * plan.stride[k];
      if (k > 0) other += position[k] * plan.others_stride[k];
    }
  }
};

// How many axes an array over them must hold.
template <class N>
constexpr int kMostAxes = kMaxNdim;
template <int kNdim>
constexpr int kMostAxes<Constant<kNdim>> = kNdim;

// Rows of units at even distances.
template <class T>
struct Rows {
  T* first;
  int64_t apart;
  T* operator[](int64_t j) const { return first + j * apart; }
};

// Clears (N, P, row) for the samples that do not fill the lattice.
template <class T>
void blank(const Plan& plan, const Host& host, T* points, int64_t row) {
  const Problem& p = plan.problem;
  if (!points || !p.sizes) return;
  share_out(p.batch, smaller(host.threads, p.batch), host, [&](int64_t, int64_t sample) {
    bool whole = true;
    for (int k = 0; k < p.ndim; ++k) whole = whole && plan.size(sample, k) == p.extent[k];
    if (!whole) std::memset(points + sample * plan.points * row, 0, sizeof(T) * plan.points * row);
  });
}

// Where a sample has no points, or does not fill a face, nobody writes the face: it is zero there, but a sample without
// points on an axis lets the states of that axis pass from face to face.
template <class T>
void pass(const Plan& plan, const T* from, T* to) {
  const Problem& p = plan.problem;
  if (!to || (!p.sizes && plan.points > 0)) return;
  const int64_t chains = p.directions * p.batch;
  std::memset(to, 0, sizeof(T) * chains * plan.face_points() * p.hidden);
  for (int64_t chain = 0; from && chain < chains; ++chain)
    for (int k = 0; k < p.ndim; ++k) {
      const int64_t sample = chain % p.batch;
      if (plan.size(sample, k) != 0) continue;
      for (int64_t at = plan.face_start[k]; at < plan.face_start[k + 1]; ++at) {
        int64_t rest = at - plan.face_start[k];
        bool inside = true;
        for (int j = p.ndim - 1; j >= 0; --j) {
          if (j == k) continue;
          inside = inside && rest % p.extent[j] < plan.size(sample, j);
          rest /= p.extent[j];
        }
        const int64_t row = (chain * plan.face_points() + at) * p.hidden;
        if (inside) std::memcpy(to + row, from + row, sizeof(T) * p.hidden);
      }
    }
}

}  // namespace ndrnn::NDRNN_ISA
