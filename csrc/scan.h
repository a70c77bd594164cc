// What the scan and its way back share: boundary memories, the pipeline of strips, where tasks store what is kept.
#pragma once
#include "pack.h"

namespace ndrnn::NDRNN_ISA {

template <class T>
class Scan {
 protected:
  Scan(const Plan& plan, const CellInfo<T>& cell, const Weights<T>& weights, const T* c0, const Host& host)
      : plan_(plan), problem_(plan.problem), cell_(cell), given_(weights), c0_(c0), packing_(problem_, cell), host_(host), arena_(host) {}

  void place_shared(Layout& layout) {
    layout.place(extra_, problem_.directions * cell_.extra_rows * packing_.width);
    layout.place(zeros_, zeros());
    layout.place(entry_, cell_.memory && c0_ ? chains() * plan_.face_points() * packing_.width : 0);
    layout.place(progress_, plan_.tasks * kApart);
    layout.place(stored_, orders() + 1);
  }

  void prepare_shared() {
    for (int64_t d = 0; d < problem_.directions; ++d)
      packing_.extra(given_, d, extra_ + d * cell_.extra_rows * packing_.width);
    std::memset(zeros_, 0, sizeof(T) * zeros());
    std::memset(progress_, 0, sizeof(int64_t) * plan_.tasks * kApart);
    if (cell_.memory && c0_) {
      for (int64_t row = 0; row < chains() * plan_.face_points(); ++row) {
        T* to = entry_ + row * packing_.width;
        std::memcpy(to, c0_ + row * problem_.hidden, sizeof(T) * problem_.hidden);
        std::memset(to + problem_.hidden, 0, sizeof(T) * (packing_.width - problem_.hidden));
      }
    }
    stored_[0] = 0;
    for (int64_t order = 0; order < orders(); ++order) {
      const Task task(plan_, order * problem_.directions, false);
      int64_t points = 0;
      for (int64_t i = task.sample_begin; i < task.sample_end; ++i) points += Sample(plan_, task, i).points(plan_);
      stored_[order + 1] = stored_[order] + points;
    }
  }

  // Every task of a direction has a number of its own; forward they are worked through in this order.
  int64_t orders() const { return plan_.strips * plan_.groups; }
  int64_t order_of(const Task& task) const { return task.strip * plan_.groups + task.group; }
  int64_t chains() const { return problem_.directions * problem_.batch; }
  int64_t message() const { return cell_.parts() * packing_.width; }
  int64_t zeros() const { return larger(message(), larger(problem_.inputs, problem_.hidden)); }

  // Where the kept rows of a task begin; they lie in the order in which the forward scan meets the points.
  int64_t stored_before(const Task& task) const { return task.direction * stored_[orders()] + stored_[order_of(task)]; }
  int64_t stored_after(const Task& task) const { return task.direction * stored_[orders()] + stored_[order_of(task) + 1]; }

  // Wavefronts of a strip that are done. Two threads write to neighbours all the time, and fetch lines in pairs.
  static constexpr int64_t kApart = 128 / sizeof(int64_t);
  int64_t* progress(const Task& task, int64_t strip) const {
    return progress_ + (strip * problem_.directions * plan_.groups + task.chain(plan_)) * kApart;
  }

  // Clears what belongs to no point: (N, P, row) beyond the extents of ragged samples, and whole faces.
  void clear(T* points, int64_t row) const {
    if (!points || !problem_.sizes) return;
    share_out(problem_.batch, smaller(host_.threads, problem_.batch), host_, [&](int64_t, int64_t sample) {
      bool whole = true;
      for (int k = 0; k < problem_.ndim; ++k) whole = whole && plan_.size(sample, k) == problem_.extent[k];
      if (!whole) std::memset(points + sample * plan_.points * row, 0, sizeof(T) * plan_.points * row);
    });
  }

  // A sample without points on an axis lets the states of that axis pass from face to face.
  void pass(const T* from, T* to) const {
    if (!to || (!problem_.sizes && plan_.points > 0)) return;
    std::memset(to, 0, sizeof(T) * chains() * plan_.face_points() * problem_.hidden);
    for (int64_t chain = 0; from && chain < chains(); ++chain)
      for (int k = 0; k < problem_.ndim; ++k) {
        const int64_t sample = chain % problem_.batch;
        if (plan_.size(sample, k) != 0) continue;
        for (int64_t at = plan_.face_start[k]; at < plan_.face_start[k + 1]; ++at) {
          int64_t rest = at - plan_.face_start[k];
          bool inside = true;
          for (int j = problem_.ndim - 1; j >= 0; --j) {
            if (j == k) continue;
            inside = inside && rest % problem_.extent[j] < plan_.size(sample, j);
            rest /= problem_.extent[j];
          }
          const int64_t row = (chain * plan_.face_points() + at) * problem_.hidden;
          if (inside) std::memcpy(to + row, from + row, sizeof(T) * problem_.hidden);
        }
      }
  }

  const Plan& plan_;
  const Problem& problem_;
  const CellInfo<T>& cell_;
  const Weights<T>& given_;
  const T* const c0_;
  const Packing<T> packing_;
  const Host& host_;
  Arena arena_;
  T *extra_, *zeros_, *entry_;
  int64_t *progress_, *stored_;
};

}  // namespace ndrnn::NDRNN_ISA
