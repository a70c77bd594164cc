// The scan forward: gather the rows of a wavefront, multiply, apply the gates, block by block.
#pragma once
#include "pack.h"

namespace ndrnn::NDRNN_ISA {

template <class T>
class ForwardScan {
 public:
  ForwardScan(const Plan& plan, const CellInfo<T>& cell, const Forward<T>& call)
      : plan_(plan), problem_(plan.problem), cell_(cell), call_(call), packing_(problem_, cell) {}

  bool run(const Parallel& parallel) {
    const int64_t workers = smaller(parallel.threads, plan_.tasks);
    Arena arena;
    for (char* base : {static_cast<char*>(nullptr), static_cast<char*>(nullptr)}) {
      (void)base;
      Layout layout(arena.data());
      place(layout, workers);
      if (!arena.data() && !arena.reserve(layout.bytes())) return false;
    }
    prepare(parallel);
    share_out(plan_.tasks, workers, parallel, [&](int64_t worker, int64_t number) {
      sweep(Task(plan_, number, false), scratch_ + worker * scratch_bytes_);
    });
    return true;
  }

 private:
  // What one worker needs: see place_scratch.
  struct Scratch {
    ForwardBlock<T>* block;
    Sample* samples;
    T* sums;
    T* ring;  // memories of the last two wavefronts: (2, samples, other points, width)
    const T* inputs[kBlock];
    Point* points;    // of the block's rows
    int32_t* sample;  // likewise
  };

  int64_t place_scratch(Scratch& s, char* base) const {
    Layout layout(base);
    layout.place(s.block, 1);
    layout.place(s.samples, plan_.group);
    layout.place(s.sums, kBlock * cell_.lanes * kPanel<T>);
    layout.place(s.ring, call_.c || !cell_.memory ? 0 : 2 * plan_.group * plan_.others * packing_.width);
    layout.place(s.points, kBlock);
    layout.place(s.sample, kBlock);
    return layout.bytes();
  }

  void place(Layout& layout, int64_t workers) {
    const int64_t chains = problem_.directions * problem_.batch;
    Scratch unplaced;
    scratch_bytes_ = place_scratch(unplaced, nullptr);
    layout.place(weights_, problem_.directions * packing_.size);
    layout.place(extra_, problem_.directions * cell_.extra_rows * packing_.width);
    layout.place(zeros_, larger(packing_.width, larger(problem_.inputs, problem_.hidden)));
    layout.place(entry_, cell_.memory && call_.c0 ? chains * plan_.face_points() * packing_.width : 0);
    layout.place(handed_, hands_over() ? chains * plan_.others * packing_.width : 0);
    layout.place(progress_, plan_.strips * problem_.directions * plan_.groups);
    layout.place(scratch_, workers * scratch_bytes_);
  }

  // Without a stored c, a strip hands the memories of its last row over to the next strip.
  bool hands_over() const { return cell_.memory && !call_.c && plan_.strips > 1; }

  void prepare(const Parallel& parallel) {
    share_out(problem_.directions, smaller(parallel.threads, problem_.directions), parallel,
              [&](int64_t, int64_t direction) {
                packing_.forward(call_.weights, direction, weights_ + direction * packing_.size);
                packing_.extra(call_.weights, direction, extra_ + direction * cell_.extra_rows * packing_.width);
              });
    std::memset(zeros_, 0, sizeof(T) * larger(packing_.width, larger(problem_.inputs, problem_.hidden)));
    std::memset(progress_, 0, sizeof(int64_t) * plan_.strips * problem_.directions * plan_.groups);
    if (cell_.memory && call_.c0) pad_rows(call_.c0, problem_.directions * problem_.batch * plan_.face_points());
  }

  void pad_rows(const T* from, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row) {
      T* to = entry_ + row * packing_.width;
      std::memcpy(to, from + row * problem_.hidden, sizeof(T) * problem_.hidden);
      std::memset(to + problem_.hidden, 0, sizeof(T) * (packing_.width - problem_.hidden));
    }
  }

  int64_t* progress(const Task& task, int64_t strip) const {
    return progress_ + strip * problem_.directions * plan_.groups + task.chain(plan_);
  }

  T* handed(int64_t direction, int64_t sample, int64_t other) const {
    return handed_ + ((direction * problem_.batch + sample) * plan_.others + other) * packing_.width;
  }

  void sweep(const Task& task, char* memory) {
    Scratch s;
    place_scratch(s, memory);
    s.block = new (memory) ForwardBlock<T>;
    ForwardBlock<T>& block = *s.block;
    block.rows = 0;
    block.hidden = problem_.hidden;
    block.width = packing_.width;
    block.ndim = problem_.ndim;
    block.extra = extra_ + task.direction * cell_.extra_rows * packing_.width;
    block.sums = s.sums;
    for (int64_t i = task.sample_begin; i < task.sample_end; ++i) s.samples[i - task.sample_begin] = Sample(plan_, task, i);
    int64_t stored = call_.kept ? first_stored(task) : 0;
    const int64_t wavefronts = task.wavefronts(plan_);
    for (int64_t t = 0; t < wavefronts; ++t) {
      if (task.strip > 0 && t <= plan_.reach)
        wait_until([&] { return acquire(progress(task, task.strip - 1)) >= t + plan_.rows; });
      for_wavefront(plan_, task, s.samples, t, [&](int64_t sample, const Point& point) {
        add(task, s, t, sample, point);
        if (block.rows == kBlock) finish(task, s, stored);
      });
      finish(task, s, stored);
      release(progress(task, task.strip), t + 1);
    }
  }

  // The number of points that tasks before this one store.
  int64_t first_stored(const Task& task) const { return stored_before(plan_, task); }

  void add(const Task& task, Scratch& s, int64_t t, int64_t local, const Point& point) {
    ForwardBlock<T>& block = *s.block;
    const Sample& sample = s.samples[local];
    const int64_t row = block.rows++, directions = problem_.directions, hidden = problem_.hidden;
    const int64_t width = packing_.width, at = sample.index * plan_.points + point.at;
    T* y = call_.y + (at * directions + task.direction) * hidden;
    s.points[row] = point;
    s.sample[row] = int32_t(local);
    s.inputs[row] = call_.x + at * problem_.inputs;
    block.h[row] = y;
    for (int k = 0; k < problem_.ndim; ++k) {
      const bool enters = point.entry >> k & 1;
      const T* before = y - sample.step[k] * directions * hidden;
      if (enters) before = call_.h0 ? call_.h0 + plan_.face_row(task.direction, sample.index, k, point.at) * hidden : zeros_;
      block.h_prev[k][row] = before;
    }
    if (!cell_.memory) return;
    T* const ring = s.ring + (t % 2 * plan_.group + local) * plan_.others * width;
    const T* const last = s.ring + ((t + 1) % 2 * plan_.group + local) * plan_.others * width;
    T* c = call_.c ? call_.c + (at * directions + task.direction) * width : ring + point.other * width;
    block.c[row] = c;
    for (int k = 0; k < problem_.ndim; ++k) {
      const T* before;
      if (point.entry >> k & 1)
        before = call_.c0 ? entry_ + plan_.face_row(task.direction, sample.index, k, point.at) * width : zeros_;
      else if (call_.c)
        before = c - sample.step[k] * directions * width;
      else if (k > 0)
        before = last + (point.other - plan_.others_stride[k]) * width;
      else if (point.row > task.row_begin)
        before = last + point.other * width;
      else
        before = handed(task.direction, sample.index, point.other);
      block.c_prev[k][row] = before;
    }
  }

  void finish(const Task& task, Scratch& s, int64_t& stored) {
    ForwardBlock<T>& block = *s.block;
    if (block.rows == 0) return;
    block.kept = call_.kept ? call_.kept + stored * cell_.kept * packing_.width : nullptr;
    stored += block.rows;
    const T* weights = weights_ + task.direction * packing_.size;
    for (int64_t panel = 0; panel < packing_.panels; ++panel) {
      for (int lane = 0; lane < cell_.lanes; ++lane) {
        Segment<T> segments[1 + 2 * kMaxAxes];
        int count = 0;
        for (int r = 0; r < packing_.run_count; ++r) {
          const Run& run = packing_.runs[r];
          if (!packing_.enters(run, lane)) continue;
          const T* const* rows = run.product == 0 ? s.inputs
                                 : run.memory     ? block.c_prev[run.product - 1]
                                                  : block.h_prev[run.product - 1];
          segments[count++] = {rows, 0, run.length};
        }
        multiply(segments, count, block.rows, weights + kPanel<T>, weights, block.sums + lane * kPanel<T>,
                 cell_.lanes * kPanel<T>);
        weights += packing_.panel_size(lane);
      }
      cell_.forward(block, panel * kPanel<T>);
    }
    const bool last_row_leaves = hands_over() && task.strip + 1 < plan_.strips;
    if (call_.hn || last_row_leaves)
      for (int64_t row = 0; row < block.rows; ++row) leave(task, s, row, last_row_leaves);
    block.rows = 0;
  }

  // Carries states out: to the exit faces, and from a strip's last row to the next strip.
  void leave(const Task& task, const Scratch& s, int64_t row, bool last_row_leaves) {
    const ForwardBlock<T>& block = *s.block;
    const Point& point = s.points[row];
    const int64_t sample = task.sample_begin + s.sample[row], hidden = problem_.hidden;
    if (last_row_leaves && point.row == task.row_end - 1)
      std::memcpy(handed(task.direction, sample, point.other), block.c[row], sizeof(T) * packing_.width);
    if (!call_.hn) return;
    for (int k = 0; k < problem_.ndim; ++k) {
      if (!(point.exit >> k & 1)) continue;
      const int64_t at = plan_.face_row(task.direction, sample, k, point.at) * hidden;
      std::memcpy(call_.hn + at, block.h[row], sizeof(T) * hidden);
      if (call_.cn) std::memcpy(call_.cn + at, block.c[row], sizeof(T) * hidden);
    }
  }

  const Plan& plan_;
  const Problem& problem_;
  const CellInfo<T>& cell_;
  const Forward<T>& call_;
  const Packing<T> packing_;
  T *weights_, *extra_, *zeros_, *entry_, *handed_;
  int64_t* progress_;
  char* scratch_;
  int64_t scratch_bytes_;
};

}  // namespace ndrnn::NDRNN_ISA
