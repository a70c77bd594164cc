// c = z + sum over the axes of f times c of the predecessor, element by element, and its way back. One direction.
#pragma once
#include "linear.h"

namespace ndrnn::NDRNN_ISA {

// Units are cut into chunks of whole cache lines where there are too few samples to go round. No result depends on it.
template <class T>
struct Chunks {
  int64_t units, count;

  Chunks(const Problem& p, bool divisible, const Host& host) {
    constexpr int64_t kLine = 64 / sizeof(T);
    const int64_t wanted = p.batch > 0 && divisible ? ceil_div(2 * host.threads, p.batch) : 1;
    units = ceil_div(ceil_div(p.hidden, wanted), kLine) * kLine;
    count = ceil_div(p.hidden, units);
  }
};

template <class T>
class LinearForward {
 public:
  LinearForward(const Plan& plan, const LinearScan<T>& call, const Host& host)
      : plan_(plan), problem_(plan.problem), call_(call), host_(host), arena_(host) {}

  bool run() {
    const int64_t hidden = problem_.hidden;
    if (!arena_.reserve([&](Layout& layout) { layout.place(zeros_, hidden); })) return false;
    std::memset(zeros_, 0, sizeof(T) * hidden);
    blank(plan_, host_, call_.c, hidden);
    pass(plan_, call_.c0, call_.cn);
    const Chunks<T> chunks(problem_, true, host_);
    const int64_t tasks = problem_.batch * chunks.count;
    share_out(tasks, smaller(host_.threads, tasks), host_, [&](int64_t, int64_t number) {
      const int64_t begin = number % chunks.count * chunks.units;
      with_ndim(problem_.ndim, [&](auto n) {
        sweep(n, number / chunks.count, begin, smaller(begin + chunks.units, hidden));
      });
    });
    return true;
  }

 private:
  template <class N>
  void sweep(N n, int64_t sample, int64_t begin, int64_t end) {
    const Course course(plan_, 0, sample);
    const int64_t hidden = problem_.hidden, row = sample * plan_.points, step = course.step[n - 1];
    const int64_t faced = call_.per_unit ? hidden : 1;
    for (int64_t number = 0; number < course.lines; ++number) {
      const Line line(plan_, course, number);
      Rows<const T> before[kMaxNdim];
      for (int k = 0; k < n; ++k) {
        const bool enters = k == n - 1 || line.position[k] == 0;
        if (!enters) before[k] = {call_.c + (row + line.at - course.step[k]) * hidden, step * hidden};
        else if (call_.c0) before[k] = {call_.c0 + plan_.face_row(0, sample, k, line.at) * hidden, step * hidden};
        else before[k] = {zeros_, 0};
      }
      for (int64_t j = 0; j < course.length; ++j) {
        const int64_t at = row + line.at + j * step;
        const T *z = call_.z + at * hidden, *f[kMaxNdim], *c[kMaxNdim];
        T* const to = call_.c + at * hidden;
        for (int k = 0; k < n; ++k) {
          f[k] = call_.f + (k * problem_.batch * plan_.points + at) * faced;
          c[k] = before[k][j];
        }
        if (j > 0) c[n - 1] = to - step * hidden;
        for (int64_t unit = begin; unit < end; unit += kLanes<T>) {
          const int64_t left = end - unit;
          Vec<T> sum = load_part(z + unit, left);
          for (int k = 0; k < n; ++k)
            sum += (call_.per_unit ? load_part(f[k] + unit, left) : splat(*f[k])) * load_part(c[k] + unit, left);
          store_part(to + unit, sum, left);
        }
        if (!call_.cn) continue;
        for (int k = 0; k < n; ++k) {
          if ((k < n - 1 ? line.position[k] : j) != course.size[k] - 1) continue;
          T* const out = call_.cn + plan_.face_row(0, sample, k, at - row) * hidden;
          std::memcpy(out + begin, to + begin, sizeof(T) * (end - begin));
        }
      }
    }
  }

  const Plan& plan_;
  const Problem& problem_;
  const LinearScan<T>& call_;
  const Host& host_;
  Arena arena_;
  T* zeros_;
};

// The gradient e of z obeys the same recurrence from the other end: e = dc + sum of f and e of the successors.
template <class T>
class LinearBackward {
 public:
  LinearBackward(const Plan& plan, const LinearScanBackward<T>& call, const Host& host)
      : plan_(plan), problem_(plan.problem), call_(call), host_(host), arena_(host) {}

  bool run() {
    const int64_t hidden = problem_.hidden;
    if (!arena_.reserve([&](Layout& layout) { layout.place(zeros_, hidden); })) return false;
    std::memset(zeros_, 0, sizeof(T) * hidden);
    blank(plan_, host_, call_.dz, hidden);
    for (int k = 0; call_.df && k < problem_.ndim; ++k)
      blank(plan_, host_, call_.df + k * problem_.batch * plan_.points * faced(), faced());
    pass(plan_, call_.dcn, call_.dc0);
    const Chunks<T> chunks(problem_, call_.per_unit, host_);
    const int64_t tasks = problem_.batch * chunks.count;
    share_out(tasks, smaller(host_.threads, tasks), host_, [&](int64_t, int64_t number) {
      const int64_t begin = number % chunks.count * chunks.units;
      with_ndim(problem_.ndim, [&](auto n) {
        sweep(n, number / chunks.count, begin, smaller(begin + chunks.units, hidden));
      });
    });
    return true;
  }

 private:
  int64_t faced() const { return call_.per_unit ? problem_.hidden : 1; }

  template <class N>
  void sweep(N n, int64_t sample, int64_t begin, int64_t end) {
    const Course course(plan_, 0, sample);
    const int64_t hidden = problem_.hidden, row = sample * plan_.points, step = course.step[n - 1];
    const int64_t whole = problem_.batch * plan_.points;
    auto f_at = [&](int k, int64_t at) { return call_.f + (k * whole + at) * faced(); };
    auto f_of = [&](const T* f, int64_t unit, int64_t left) { return call_.per_unit ? load_part(f + unit, left) : splat(*f); };
    for (int64_t number = course.lines - 1; number >= 0; --number) {
      const Line line(plan_, course, number);
      for (int64_t j = course.length - 1; j >= 0; --j) {
        const int64_t at = row + line.at + j * step;
        const T *before[kMaxNdim], *after[kMaxNdim], *f_after[kMaxNdim];
        T* leaves[kMaxNdim];
        for (int k = 0; k < n; ++k) {
          const int64_t position = k < n - 1 ? line.position[k] : j;
          const bool enters = position == 0, exits = position == course.size[k] - 1;
          const int64_t face = enters || exits ? plan_.face_row(0, sample, k, at - row) * hidden : 0;
          before[k] = !enters ? call_.c + (at - course.step[k]) * hidden : call_.c0 ? call_.c0 + face : zeros_;
          after[k] = !exits ? call_.dz + (at + course.step[k]) * hidden : call_.dcn ? call_.dcn + face : zeros_;
          f_after[k] = exits ? nullptr : f_at(k, at + course.step[k]);
          leaves[k] = enters && call_.dc0 ? call_.dc0 + face : nullptr;
        }
        Vec<T> sums[kMaxNdim];
        for (int k = 0; k < n; ++k) sums[k] = splat(T(0));
        for (int64_t unit = begin; unit < end; unit += kLanes<T>) {
          const int64_t left = end - unit;
          Vec<T> e = load_part(call_.dc + at * hidden + unit, left);
          for (int k = 0; k < n; ++k) {
            const Vec<T> from = load_part(after[k] + unit, left);
            e += f_after[k] ? f_of(f_after[k], unit, left) * from : from;
          }
          store_part(call_.dz + at * hidden + unit, e, left);
          for (int k = 0; k < n; ++k) {
            if (leaves[k]) store_part(leaves[k] + unit, f_of(f_at(k, at), unit, left) * e, left);
            if (!call_.df) continue;
            const Vec<T> df = e * load_part(before[k] + unit, left);
            if (call_.per_unit) store_part(call_.df + (k * whole + at) * hidden + unit, df, left);
            else sums[k] += df;
          }
        }
        if (call_.df && !call_.per_unit)
          for (int k = 0; k < n; ++k) call_.df[k * whole + at] = total<T>(sums[k]);
      }
    }
  }

  const Plan& plan_;
  const Problem& problem_;
  const LinearScanBackward<T>& call_;
  const Host& host_;
  Arena arena_;
  T* zeros_;
};

}  // namespace ndrnn::NDRNN_ISA
