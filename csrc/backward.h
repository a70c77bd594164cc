// The way back: the same walk from the far corner. A point adds up the messages of its successors, goes through the
// gates, sends messages to its predecessors through the recurrent weights, and adds to the weights' gradients, block
// by block.
#pragma once
#include "scan.h"

namespace ndrnn::NDRNN_ISA {

template <class T>
class BackwardScan : Scan<T> {
 public:
  BackwardScan(const Plan& plan, const CellInfo<T>& cell, const Backward<T>& call, const Host& host)
      : Scan<T>(plan, cell, call.weights, call.c0, host), call_(call) {
    part_size_ = packing_.size + cell_.extra_rows * packing_.width;
    // Weight gradients are summed in parts: tasks that share one take turns in their order, so that the sums do not
    // depend on the number of threads. Enough parts for many threads, within reason.
    constexpr int64_t kPartsWanted = 64, kBytesMost = 64 << 20;
    parts_ = smaller(this->orders(), ceil_div(kPartsWanted, problem_.directions));
    while (parts_ > 2 && parts_ * problem_.directions * part_size_ * int64_t(sizeof(T)) > kBytesMost) parts_ /= 2;
  }

  bool run() {
    const int64_t workers = smaller(host_.threads, plan_.tasks);
    if (!this->arena_.reserve([&](Layout& layout) { place(layout, workers); })) return false;
    this->prepare_shared();
    std::memset(finished_, 0, sizeof(int64_t) * plan_.tasks);
    const int64_t runs = problem_.directions * packing_.run_count;
    share_out(runs, smaller(host_.threads, runs), host_,
              [&](int64_t, int64_t number) { pack(number / packing_.run_count, int(number % packing_.run_count)); });
    this->clear(call_.dx_each, problem_.directions * problem_.inputs);
    this->pass(call_.dhn, call_.dh0);
    this->pass(call_.dcn, call_.dc0);
    share_out(plan_.tasks, workers, host_, [&](int64_t worker, int64_t number) {
      sweep(Task(plan_, number, true), scratch_ + worker * scratch_bytes_);
    });
    if (call_.dih) collect();
    if (call_.dx && problem_.directions > 1) add_directions();
    return true;
  }

 private:
  using Scan<T>::plan_, Scan<T>::problem_, Scan<T>::cell_, Scan<T>::packing_, Scan<T>::zeros_, Scan<T>::entry_, Scan<T>::host_;

  // What one worker needs.
  struct Scratch {
    BackwardBlock<T>* block;
    Sample* samples;
    Front front;
    T* ring;         // messages of the last two wavefronts: (2, samples, other points, n, message)
    T* delta;        // (block, lanes, width)
    T *dh, *dc;      // (block, H): from outside, for points on exit faces
    T* features;     // what the weights saw: (block, 1 + features)
    T* dx;           // (block, inputs, padded)
    const T* inputs[kBlock];
    const T* deltas[kBlock];  // rows of delta
  };

  int64_t place_scratch(Scratch*& s, char* base) const {
    Layout layout(base);
    layout.place(s, 1);
    Scratch unplaced, &to = base ? *s : unplaced;
    layout.place(to.block, 1);
    layout.place(to.samples, plan_.group);
    layout.place(to.front.points, plan_.front);
    layout.place(to.front.local, plan_.front);
    layout.place(to.ring, 2 * plan_.group * plan_.others * problem_.ndim * this->message());
    layout.place(to.delta, kBlock * cell_.lanes * packing_.width);
    layout.place(to.dh, kBlock * problem_.hidden);
    layout.place(to.dc, kBlock * problem_.hidden);
    layout.place(to.features, kBlock * (1 + packing_.features));
    layout.place(to.dx, kBlock * padded_inputs());
    return layout.bytes();
  }

  void place(Layout& layout, int64_t workers) {
    Scratch* unplaced;
    scratch_bytes_ = place_scratch(unplaced, nullptr);
    input_size_ = few_inputs() ? problem_.inputs * cell_.lanes * packing_.width : packing_.transposed_size(packing_.runs[0]);
    state_size_ = packing_.transposed_size(packing_.runs[1]);
    this->place_shared(layout);
    layout.place(inputs_, call_.dx ? problem_.directions * input_size_ : 0);
    layout.place(states_, problem_.directions * problem_.ndim * state_size_);
    layout.place(memories_, cell_.feeds_memory ? problem_.directions * problem_.ndim * state_size_ : 0);
    layout.place(handed_, plan_.strips > 1 ? this->chains() * plan_.others * this->message() : 0);
    layout.place(finished_, plan_.tasks);
    layout.place(sums_, call_.dih ? problem_.directions * larger(1, parts_) * part_size_ : 0);
    layout.place(scratch_, workers * scratch_bytes_);
  }

  void pack(int64_t direction, int r) {
    const Run& run = packing_.runs[r];
    if (run.product > 0) {
      T* const all = run.memory ? memories_ : states_;
      packing_.transposed(call_.weights, direction, run, all + (direction * problem_.ndim + run.product - 1) * state_size_);
    } else if (call_.dx) {
      T* const to = inputs_ + direction * input_size_;
      if (few_inputs()) packing_.by_input(call_.weights, direction, to);
      else packing_.transposed(call_.weights, direction, run, to);
    }
  }

  // Adds up the parts in their order, and hands the weights' gradients out.
  void collect() const {
    if (plan_.tasks == 0) std::memset(sums_, 0, sizeof(T) * problem_.directions * part_size_);
    constexpr int64_t kChunk = 4096;
    const int64_t chunks = ceil_div(part_size_, kChunk), pieces = problem_.directions * chunks;
    share_out(parts_ > 1 ? pieces : 0, smaller(host_.threads, pieces), host_, [&](int64_t, int64_t piece) {
      const int64_t begin = piece % chunks * kChunk, end = smaller(begin + kChunk, part_size_);
      T* const total = parts_of(piece / chunks);
      for (int64_t part = 1; part < parts_; ++part)
        for (int64_t i = begin; i < end; ++i) total[i] += total[part * part_size_ + i];
    });
    const int64_t panels = problem_.directions * packing_.panels;
    share_out(panels, smaller(host_.threads, panels), host_, [&](int64_t, int64_t number) {
      const int64_t direction = number / packing_.panels, panel = number % packing_.panels;
      packing_.unpack(parts_of(direction), direction, panel, call_);
      if (panel == 0) packing_.unpack_extra(parts_of(direction) + packing_.size, direction, call_);
    });
  }

  void add_directions() const {
    const int64_t points = problem_.batch * plan_.points, inputs = problem_.inputs, directions = problem_.directions;
    constexpr int64_t kChunk = 1024;
    const int64_t chunks = ceil_div(points, kChunk);
    share_out(chunks, smaller(host_.threads, chunks), host_, [&](int64_t, int64_t chunk) {
      const int64_t end = smaller((chunk + 1) * kChunk, points);
      for (int64_t point = chunk * kChunk; point < end; ++point) {
        const T* from = call_.dx_each + point * directions * inputs;
        T* to = call_.dx + point * inputs;
        for (int64_t i = 0; i < inputs; ++i) {
          T sum = from[i];
          for (int64_t d = 1; d < directions; ++d) sum += from[d * inputs + i];
          to[i] = sum;
        }
      }
    });
  }

  bool few_inputs() const { return problem_.inputs <= kLanes<T>; }
  int64_t padded_inputs() const { return ceil_div(problem_.inputs, packing_.panel) * packing_.panel; }
  T* parts_of(int64_t direction) const { return sums_ + direction * larger(1, parts_) * part_size_; }

  // The message of a strip's first row to the strip before it.
  T* handed(int64_t direction, int64_t sample, int64_t other) const {
    return handed_ + ((direction * problem_.batch + sample) * plan_.others + other) * this->message();
  }

  // The messages of a point.
  T* in_ring(const Scratch& s, int64_t t, int64_t local, int64_t other) const {
    return s.ring + ((t % 2 * plan_.group + local) * plan_.others + other) * problem_.ndim * this->message();
  }

  int64_t* finished(const Task& task, int64_t order) const { return finished_ + order * problem_.directions + task.direction; }

  void sweep(const Task& task, char* memory) {
    Scratch* scratch;
    place_scratch(scratch, memory);
    Scratch& s = *scratch;
    BackwardBlock<T>& block = *s.block;
    block.hidden = problem_.hidden;
    block.width = packing_.width;
    block.ndim = problem_.ndim;
    block.extra = this->extra_ + task.direction * cell_.extra_rows * packing_.width;
    block.delta = s.delta;
    for (int64_t row = 0; row < kBlock; ++row) s.deltas[row] = s.delta + row * cell_.lanes * packing_.width;
    for (int64_t i = task.sample_begin; i < task.sample_end; ++i) s.samples[i - task.sample_begin] = Sample(plan_, task, i);
    T* sums = nullptr;
    if (call_.dih) {
      sums = parts_of(task.direction) + task.order % parts_ * part_size_;
      if (task.order < parts_) std::memset(sums, 0, sizeof(T) * part_size_);
      else wait_until([&] { return acquire(finished(task, task.order - parts_)) != 0; });
      block.extra_sums = sums + packing_.size;
    } else {
      block.extra_sums = nullptr;
    }
    const bool more = task.strip + 1 < plan_.strips;
    const int64_t wavefronts = task.wavefronts(plan_), last_row = task.row_end - task.row_begin - 1;
    int64_t stored = this->stored_after(task);
    for (int64_t t = wavefronts - 1; t >= 0; --t) {
      if (more && t >= last_row) {
        // the next strip has as many wavefronts as it has rows, and those of the other axes' reach
        const int64_t rows_after = smaller(plan_.rows, problem_.extent[0] - task.row_end);
        const int64_t needed = rows_after + plan_.reach - (t - last_row);
        wait_until([&] { return acquire(this->progress(task, task.strip + 1)) >= needed; });
      }
      s.front.gather(plan_, task, s.samples, t);
      stored -= s.front.count;
      in_blocks(0, s.front.count, kBlock, [&](int64_t begin, int64_t end) {
        const Point* const points = s.front.points + begin;
        const int32_t* const local = s.front.local + begin;
        block.rows = end - begin;
        block.kept = call_.kept + (stored + begin) * cell_.kept * packing_.width;
        for (int64_t row = 0; row < block.rows; ++row) add(task, s, t, row, points[row], local[row]);
        finish(task, s, points, local, sums);
      });
      release(this->progress(task, task.strip), wavefronts - t);
    }
    if (call_.dih) release(finished(task, task.order), 1);
  }

  // Takes a point into the block, and sends for what the next wavefront will be the first to read: its own gradients
  // of y, and the states of its predecessors. They lie far apart, where the processor does not foresee them.
  void add(const Task& task, Scratch& s, int64_t t, int64_t row, const Point& point, int64_t local) {
    BackwardBlock<T>& block = *s.block;
    const Sample& sample = s.samples[local];
    const int64_t directions = problem_.directions, hidden = problem_.hidden, width = packing_.width;
    const int64_t at = sample.index * plan_.points + point.at, unit = at * directions + task.direction;
    s.inputs[row] = call_.x + at * problem_.inputs;
    block.h[row] = call_.y + unit * hidden;
    if (cell_.memory) block.c[row] = call_.c + unit * width;
    block.sent[row] = in_ring(s, t, local, point.other);
    block.dh[row] = call_.dy + unit * hidden;
    block.dc[row] = zeros_;
    for (int k = 0; k < problem_.ndim; ++k) {
      const bool enters = point.entry >> k & 1, leaves = point.exit >> k & 1;
      const int64_t back = sample.step[k] * directions;
      const int64_t face = enters ? plan_.face_row(task.direction, sample.index, k, point.at) : 0;
      block.h_prev[k][row] = !enters ? block.h[row] - back * hidden : call_.h0 ? call_.h0 + face * hidden : zeros_;
      if (cell_.memory)
        block.c_prev[k][row] = !enters ? block.c[row] - back * width : call_.c0 ? entry_ + face * width : zeros_;
      if (leaves) block.received[k][row] = zeros_;
      else if (k == 0 && point.row == task.row_end - 1)
        block.received[k][row] = handed(task.direction, sample.index, point.other);
      else
        block.received[k][row] =
            in_ring(s, t + 1, local, point.other + (k == 0 ? 0 : plan_.others_stride[k])) + k * this->message();
    }
    const int64_t ahead = -sample.step[problem_.ndim - 1] * directions;
    prefetch(block.h[row], 2 * ahead * hidden, hidden);
    prefetch(block.dh[row], ahead * hidden, hidden);
    if (cell_.memory) prefetch(block.c[row], 2 * ahead * width, width);
    if (point.exit && (call_.dhn || call_.dcn)) add_exits(task, s, row, sample.index, point);
  }

  // Adds the gradients of the exit states at a point to those of its states from elsewhere.
  void add_exits(const Task& task, Scratch& s, int64_t row, int64_t sample, const Point& point) {
    BackwardBlock<T>& block = *s.block;
    const int64_t hidden = problem_.hidden;
    auto add = [&](const T*& from, T* sum, const T* faces) {
      std::memcpy(sum, from, sizeof(T) * hidden);
      for (int k = 0; k < problem_.ndim; ++k) {
        if (!(point.exit >> k & 1)) continue;
        const T* face = faces + plan_.face_row(task.direction, sample, k, point.at) * hidden;
        for (int64_t i = 0; i < hidden; ++i) sum[i] += face[i];
      }
      from = sum;
    };
    if (call_.dhn) add(block.dh[row], s.dh + row * hidden, call_.dhn);
    if (call_.dcn) add(block.dc[row], s.dc + row * hidden, call_.dcn);
  }

  void finish(const Task& task, Scratch& s, const Point* points, const int32_t* local, T* sums) {
    BackwardBlock<T>& block = *s.block;
    cell_.backward(block);
    send(task, s);
    for (int64_t row = 0; task.strip > 0 && row < block.rows; ++row)
      if (points[row].row == task.row_begin)
        std::memcpy(handed(task.direction, task.sample_begin + local[row], points[row].other), block.sent[row],
                    sizeof(T) * this->message());
    if (sums) add_weights(s, sums);
    if (call_.dx) to_inputs(task, s, points, local);
    if (call_.dh0) to_faces(task, s, points, local);
  }

  // The messages to the predecessors: what the cell carried over, and products with the recurrent weights.
  void send(const Task& task, Scratch& s) {
    const int n = problem_.ndim;
    for (int k = 0; k < n; ++k) {
      const int64_t at = k * this->message(), weights = (task.direction * n + k) * state_size_;
      through(s, packing_.runs[1 + k], states_ + weights, cell_.carry_to_h, Scattered<T>{s.block->sent, at});
      if (cell_.feeds_memory)
        through(s, packing_.runs[1 + n + k], memories_ + weights, true, Scattered<T>{s.block->sent, at + packing_.width});
    }
  }

  // Adds the products of a block's deltas with the weights of one run to `out`, or puts them there.
  void through(const Scratch& s, const Run& run, const T* weights, bool adds, Scattered<T> out) const {
    Segment<T> segments[kMaxLanes];
    int count = 0;
    for (int lane = 0; lane < cell_.lanes; ++lane) {
      if (!packing_.enters(run, lane)) continue;
      const bool joins = count > 0 && packing_.width == problem_.hidden &&
                         segments[count - 1].offset + segments[count - 1].length == lane * packing_.width;
      if (joins) segments[count - 1].length += problem_.hidden;
      else segments[count++] = {s.deltas, lane * packing_.width, problem_.hidden};
    }
    const int64_t panel = packing_.panel, size = packing_.transposed_rows(run) * panel;
    for (int64_t begin = 0; begin < run.length; begin += panel, weights += size, out.offset += panel)
      multiply(segments, count, s.block->rows, panel, weights, adds ? nullptr : zeros_, out);
  }

  // The gradients of the inputs.
  void to_inputs(const Task& task, Scratch& s, const Point* points, const int32_t* local) {
    const int64_t rows = s.block->rows, padded = padded_inputs();
    const T* weights = inputs_ + task.direction * input_size_;
    if (few_inputs()) {
      dots(s.deltas, rows, cell_.lanes * packing_.width, weights, problem_.inputs, s.dx, padded);
    } else {
      T* places[kBlock];
      for (int64_t row = 0; row < rows; ++row) places[row] = s.dx + row * padded;
      through(s, packing_.runs[0], weights, false, Scattered<T>{places, 0});
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = (task.sample_begin + local[row]) * plan_.points + points[row].at;
      std::memcpy(call_.dx_each + (at * problem_.directions + task.direction) * problem_.inputs, s.dx + row * padded,
                  sizeof(T) * problem_.inputs);
    }
  }

  // What is sent across the entry faces is the gradient of the boundary states.
  void to_faces(const Task& task, Scratch& s, const Point* points, const int32_t* local) {
    for (int64_t row = 0; row < s.block->rows; ++row)
      for (int k = 0; k < problem_.ndim; ++k) {
        if (!(points[row].entry >> k & 1)) continue;
        const int64_t to =
            plan_.face_row(task.direction, task.sample_begin + local[row], k, points[row].at) * problem_.hidden;
        const T* from = s.block->sent[row] + k * this->message();
        for (int64_t i = 0; i < problem_.hidden; ++i) {
          call_.dh0[to + i] = limited(from[i]);
          if (call_.dc0) call_.dc0[to + i] = limited(from[packing_.width + i]);
        }
      }
  }

  T limited(T v) const { return v > cell_.limit ? cell_.limit : v < -cell_.limit ? -cell_.limit : v; }

  static constexpr int kMaxLanes = 3 * kMaxAxes + 3;

  // The weights' gradients: what entered a block's pre-activations times their gradients.
  void add_weights(Scratch& s, T* sums) {
    const int64_t rows = s.block->rows, stride = 1 + packing_.features;
    for (int64_t row = 0; row < rows; ++row) {
      T* to = s.features + row * stride;
      *to++ = T(1);
      for (int r = 0; r < packing_.run_count; ++r) {
        const Run& run = packing_.runs[r];
        const T* from = run.product == 0 ? s.inputs[row]
                        : run.memory     ? s.block->c_prev[run.product - 1][row]
                                         : s.block->h_prev[run.product - 1][row];
        std::memcpy(to, from, sizeof(T) * run.length);
        to += run.length;
      }
    }
    for (int64_t panel = 0; panel < packing_.panels; ++panel)
      for (int lane = 0; lane < cell_.lanes; ++lane) {
        const int64_t column = lane * packing_.width + panel * packing_.panel;
        // runs that lie side by side go together; the bias is the first of them
        int64_t begin = 0, length = 1;
        auto flush = [&] {
          if (packing_.panel == kLanes<T>) outer<T, 1>(length, rows, s.features + begin, stride, s.deltas, column, sums);
          else outer<T, 2>(length, rows, s.features + begin, stride, s.deltas, column, sums);
          sums += length * packing_.panel;
        };
        for (int r = 0; r < packing_.run_count; ++r) {
          const Run& run = packing_.runs[r];
          if (!packing_.enters(run, lane)) continue;
          if (begin + length != 1 + run.begin) {
            flush();
            begin = 1 + run.begin;
            length = 0;
          }
          length += run.length;
        }
        flush();
      }
  }

  const Backward<T>& call_;
  int64_t part_size_, parts_;
  int64_t input_size_, state_size_;
  T *inputs_, *states_, *memories_;  // transposed weights
  T *handed_, *sums_;
  int64_t* finished_;  // tasks whose part of the sums is complete
  char* scratch_;
  int64_t scratch_bytes_;
};

}  // namespace ndrnn::NDRNN_ISA
