// The scan forward: gather the rows of a wavefront, multiply, apply the gates, block by block.
#pragma once
#include "scan.h"

namespace ndrnn::NDRNN_ISA {

// The weights of all directions in the order of the products.
template <class T>
void pack(const Packing<T>& packing, const Weights<T>& weights, const Host& host, T* out) {
  const int64_t panels = packing.problem.directions * packing.panels;
  share_out(panels, smaller(host.threads, panels), host, [&](int64_t, int64_t number) {
    const int64_t direction = number / packing.panels, panel = number % packing.panels;
    packing.forward(weights, direction, panel, out + number * (packing.size / packing.panels));
  });
}

// What all blocks of a direction have in common.
template <class T>
void describe(ForwardBlock<T>& block, const Packing<T>& packing, const T* extra, T* sums) {
  block.hidden = packing.problem.hidden;
  block.width = packing.width;
  block.panel = packing.panel;
  block.ndim = packing.problem.ndim;
  block.extra = extra;
  block.sums = sums;
}

// The states of a block's points, whose inputs and predecessors are known: the products of a panel of units, then its
// gates.
template <class T>
void advance(const Packing<T>& packing, const CellInfo<T>& cell, const ForwardBlock<T>& block, const T* const* inputs,
             const T* weights) {
  for (int64_t panel = 0; panel < packing.panels; ++panel) {
    for (int lane = 0; lane < cell.lanes; ++lane) {
      Segment<T> segments[1 + 2 * kMaxAxes];
      int count = 0;
      for (int r = 0; r < packing.run_count; ++r) {
        const Run& run = packing.runs[r];
        if (!packing.enters(run, lane)) continue;
        const T* const* rows = run.product == 0 ? inputs
                               : run.memory     ? block.c_prev[run.product - 1]
                                                : block.h_prev[run.product - 1];
        segments[count++] = {rows, 0, run.length};
      }
      multiply(segments, count, block.rows, block.panel, weights + block.panel, weights,
               Strided<T>{block.sums + lane * block.panel, cell.lanes * block.panel});
      weights += packing.panel_size(lane);
    }
    cell.forward(block, panel * block.panel);
  }
}

template <class T>
class ForwardScan : Scan<T> {
 public:
  ForwardScan(const Plan& plan, const CellInfo<T>& cell, const Forward<T>& call, const Host& host)
      : Scan<T>(plan, cell, call.weights, call.c0, host), call_(call) {}

  bool run() {
    const int64_t workers = smaller(host_.threads, plan_.tasks);
    if (!this->arena_.reserve([&](Layout& layout) { place(layout, workers); })) return false;
    this->prepare_shared();
    pack(packing_, call_.weights, host_, weights_);
    this->clear(call_.y, problem_.directions * problem_.hidden);
    this->pass(call_.h0, call_.hn);
    this->pass(call_.c0, call_.cn);
    share_out(plan_.tasks, workers, host_, [&](int64_t worker, int64_t number) {
      sweep(Task(plan_, number, false), scratch_ + worker * scratch_bytes_);
    });
    return true;
  }

 private:
  using Scan<T>::plan_, Scan<T>::problem_, Scan<T>::cell_, Scan<T>::packing_, Scan<T>::zeros_, Scan<T>::entry_, Scan<T>::host_;

  // What one worker needs.
  struct Scratch {
    ForwardBlock<T>* block;
    Sample* samples;
    T* sums;
    T* ring;  // memories of the last two wavefronts: (2, samples, other points, width)
    const T* inputs[kBlock];
    Front front;
  };

  int64_t place_scratch(Scratch& s, char* base) const {
    Layout layout(base);
    layout.place(s.block, 1);
    layout.place(s.samples, plan_.group);
    layout.place(s.sums, kBlock * cell_.lanes * packing_.panel);
    layout.place(s.ring, call_.c || !cell_.memory ? 0 : 2 * plan_.group * plan_.others * packing_.width);
    layout.place(s.front.points, plan_.front);
    layout.place(s.front.local, plan_.front);
    return layout.bytes();
  }

  void place(Layout& layout, int64_t workers) {
    Scratch unplaced;
    scratch_bytes_ = place_scratch(unplaced, nullptr);
    this->place_shared(layout);
    layout.place(weights_, problem_.directions * packing_.size);
    layout.place(handed_, hands_over() ? this->chains() * plan_.others * packing_.width : 0);
    layout.place(scratch_, workers * scratch_bytes_);
  }

  // Without a stored c, a strip hands the memories of its last row over to the next strip.
  bool hands_over() const { return cell_.memory && !call_.c && plan_.strips > 1; }

  T* handed(int64_t direction, int64_t sample, int64_t other) const {
    return handed_ + ((direction * problem_.batch + sample) * plan_.others + other) * packing_.width;
  }

  void sweep(const Task& task, char* memory) {
    Scratch s;
    place_scratch(s, memory);
    ForwardBlock<T>& block = *s.block;
    describe(block, packing_, this->extra_ + task.direction * cell_.extra_rows * packing_.width, s.sums);
    for (int64_t i = task.sample_begin; i < task.sample_end; ++i) s.samples[i - task.sample_begin] = Sample(plan_, task, i);
    int64_t stored = this->stored_before(task);
    const int64_t wavefronts = task.wavefronts(plan_);
    for (int64_t t = 0; t < wavefronts; ++t) {
      if (task.strip > 0 && t <= plan_.reach)
        wait_until([&] { return acquire(this->progress(task, task.strip - 1)) >= t + plan_.rows; });
      s.front.gather(plan_, task, s.samples, t);
      in_blocks(0, s.front.count, kBlock, [&](int64_t begin, int64_t end) {
        block.rows = end - begin;
        block.kept = call_.kept ? call_.kept + (stored + begin) * cell_.kept * packing_.width : nullptr;
        for (int64_t i = begin; i < end; ++i) add(task, s, t, i - begin, s.front.local[i], s.front.points[i]);
        finish(task, s, begin);
      });
      stored += s.front.count;
      release(this->progress(task, task.strip), t + 1);
    }
  }

  void add(const Task& task, Scratch& s, int64_t t, int64_t row, int64_t local, const Point& point) {
    ForwardBlock<T>& block = *s.block;
    const Sample& sample = s.samples[local];
    const int64_t directions = problem_.directions, hidden = problem_.hidden;
    const int64_t width = packing_.width, at = sample.index * plan_.points + point.at;
    T* y = call_.y + (at * directions + task.direction) * hidden;
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

  void finish(const Task& task, Scratch& s, int64_t begin) {
    const ForwardBlock<T>& block = *s.block;
    advance(packing_, cell_, block, s.inputs, weights_ + task.direction * packing_.size);
    const bool last_row_leaves = hands_over() && task.strip + 1 < plan_.strips;
    if (call_.hn || last_row_leaves)
      for (int64_t row = 0; row < block.rows; ++row) leave(task, s, row, begin + row, last_row_leaves);
  }

  // Carries states out: to the exit faces, and from a strip's last row to the next strip.
  void leave(const Task& task, const Scratch& s, int64_t row, int64_t in_front, bool last_row_leaves) {
    const ForwardBlock<T>& block = *s.block;
    const Point& point = s.front.points[in_front];
    const int64_t sample = task.sample_begin + s.front.local[in_front], hidden = problem_.hidden;
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

  const Forward<T>& call_;
  T *weights_, *handed_;
  char* scratch_;
  int64_t scratch_bytes_;
};

}  // namespace ndrnn::NDRNN_ISA
