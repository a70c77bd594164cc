// The way back: the same walk from the far corner. A point gathers the gradients that its successors sent through
// the recurrent weights, goes through the gates, and adds to the weights' gradients, block by block.
#pragma once
#include "scan.h"

namespace ndrnn::NDRNN_ISA {

template <class T>
class BackwardScan : Scan<T> {
 public:
  BackwardScan(const Plan& plan, const CellInfo<T>& cell, const Backward<T>& call)
      : Scan<T>(plan, cell, call.weights, call.c0), call_(call) {
    part_size_ = packing_.size + cell_.extra_rows * packing_.width;
    // Weight gradients are summed in parts: tasks that share one take turns in their order, so that the sums do not
    // depend on the number of threads. Enough parts for many threads, within reason.
    constexpr int64_t kPartsWanted = 64, kBytesMost = 64 << 20;
    parts_ = smaller(this->orders(), ceil_div(kPartsWanted, problem_.directions));
    while (parts_ > 2 && parts_ * problem_.directions * part_size_ * int64_t(sizeof(T)) > kBytesMost) parts_ /= 2;
  }

  bool run(const Parallel& parallel) {
    const int64_t workers = smaller(parallel.threads, plan_.tasks);
    if (!this->reserve([&](Layout& layout) { place(layout, workers); })) return false;
    this->prepare_shared();
    std::memset(finished_, 0, sizeof(int64_t) * plan_.tasks);
    const int64_t helpers = smaller(parallel.threads, problem_.directions);
    share_out(problem_.directions, helpers, parallel, [&](int64_t, int64_t d) { pack(d); });
    this->clear(call_.dx_each, problem_.directions * problem_.inputs, parallel);
    this->pass(call_.dhn, call_.dh0);
    this->pass(call_.dcn, call_.dc0);
    share_out(plan_.tasks, workers, parallel, [&](int64_t worker, int64_t number) {
      sweep(Task(plan_, number, true), scratch_ + worker * scratch_bytes_);
    });
    if (call_.dih) collect(parallel);
    if (call_.dx && problem_.directions > 1) add_directions(parallel);
    return true;
  }

 private:
  using Scan<T>::plan_, Scan<T>::problem_, Scan<T>::cell_, Scan<T>::packing_, Scan<T>::zeros_, Scan<T>::entry_;

  // What one worker needs. A record holds the gradients of a point's pre-activations and what it carries over.
  struct Scratch {
    BackwardBlock<T>* block;
    Sample* samples;
    Point* points;   // of the wavefront
    int32_t* local;  // likewise: the sample
    T* ring;         // records of the last two wavefronts: (2, samples, other points, record)
    T *dh, *dc;      // (block, width)
    T* features;     // what the weights saw: (block, 1 + features)
    T* through;      // a product on its way to its place: (block, width or inputs, padded)
    const T* inputs[kBlock];
    const T* after[kMaxAxes][kBlock];  // records of the successors
    const T* own[kBlock];              // the rows' own records
  };

  int64_t place_scratch(Scratch*& s, char* base) const {
    Layout layout(base);
    layout.place(s, 1);
    Scratch unplaced, &to = base ? *s : unplaced;
    layout.place(to.block, 1);
    layout.place(to.samples, plan_.group);
    layout.place(to.points, plan_.front);
    layout.place(to.local, plan_.front);
    layout.place(to.ring, 2 * plan_.group * plan_.others * this->record());
    layout.place(to.dh, kBlock * packing_.width);
    layout.place(to.dc, cell_.memory ? kBlock * packing_.width : 0);
    layout.place(to.features, kBlock * (1 + packing_.features));
    layout.place(to.through, kBlock * larger(packing_.width, padded_inputs()));
    return layout.bytes();
  }

  void place(Layout& layout, int64_t workers) {
    Scratch* unplaced;
    scratch_bytes_ = place_scratch(unplaced, nullptr);
    input_size_ = few_inputs() ? problem_.inputs * cell_.lanes * packing_.width : packing_.transposed_size(packing_.runs, 1);
    state_size_ = packing_.transposed_size(packing_.runs + 1, problem_.ndim);
    this->place_shared(layout);
    layout.place(inputs_, call_.dx ? problem_.directions * input_size_ : 0);
    layout.place(states_, problem_.directions * state_size_);
    layout.place(memories_, cell_.feeds_memory ? problem_.directions * state_size_ : 0);
    layout.place(handed_, plan_.strips > 1 ? this->chains() * plan_.others * this->record() : 0);
    layout.place(finished_, plan_.tasks);
    layout.place(sums_, call_.dih ? problem_.directions * larger(1, parts_) * part_size_ : 0);
    layout.place(scratch_, workers * scratch_bytes_);
  }

  void pack(int64_t d) {
    const Run *states = packing_.runs + 1, *memories = states + problem_.ndim;
    if (call_.dx && few_inputs()) packing_.by_input(call_.weights, d, inputs_ + d * input_size_);
    else if (call_.dx) packing_.transposed(call_.weights, d, packing_.runs, 1, inputs_ + d * input_size_);
    packing_.transposed(call_.weights, d, states, problem_.ndim, states_ + d * state_size_);
    if (cell_.feeds_memory) packing_.transposed(call_.weights, d, memories, problem_.ndim, memories_ + d * state_size_);
  }

  // Adds up the parts in their order, and hands the weights' gradients out.
  void collect(const Parallel& parallel) const {
    if (plan_.tasks == 0) std::memset(sums_, 0, sizeof(T) * problem_.directions * part_size_);
    constexpr int64_t kChunk = 4096;
    const int64_t chunks = ceil_div(part_size_, kChunk), pieces = problem_.directions * chunks;
    share_out(parts_ > 1 ? pieces : 0, smaller(parallel.threads, pieces), parallel, [&](int64_t, int64_t piece) {
      const int64_t begin = piece % chunks * kChunk, end = smaller(begin + kChunk, part_size_);
      T* const total = parts_of(piece / chunks);
      for (int64_t part = 1; part < parts_; ++part)
        for (int64_t i = begin; i < end; ++i) total[i] += total[part * part_size_ + i];
    });
    const int64_t panels = problem_.directions * packing_.panels;
    share_out(panels, smaller(parallel.threads, panels), parallel, [&](int64_t, int64_t number) {
      const int64_t direction = number / packing_.panels, panel = number % packing_.panels;
      packing_.unpack(parts_of(direction), direction, panel, call_);
      if (panel == 0) packing_.unpack_extra(parts_of(direction) + packing_.size, direction, call_);
    });
  }

  void add_directions(const Parallel& parallel) const {
    const int64_t points = problem_.batch * plan_.points, inputs = problem_.inputs, directions = problem_.directions;
    constexpr int64_t kChunk = 1024;
    const int64_t chunks = ceil_div(points, kChunk);
    share_out(chunks, smaller(parallel.threads, chunks), parallel, [&](int64_t, int64_t chunk) {
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

  bool few_inputs() const { return problem_.inputs <= kPanel<T> / 2; }
  int64_t padded_inputs() const { return ceil_div(problem_.inputs, kPanel<T>) * kPanel<T>; }
  T* parts_of(int64_t direction) const { return sums_ + direction * larger(1, parts_) * part_size_; }

  // The record of a strip's first row, as the strip before it needs it.
  T* handed(int64_t direction, int64_t sample, int64_t other) const {
    return handed_ + ((direction * problem_.batch + sample) * plan_.others + other) * this->record();
  }

  T* in_ring(const Scratch& s, int64_t t, int64_t local, int64_t other) const {
    return s.ring + ((t % 2 * plan_.group + local) * plan_.others + other) * this->record();
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
    block.dh = s.dh;
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
      int64_t count = 0;
      for_wavefront(plan_, task, s.samples, t, [&](int64_t local, const Point& point) {
        s.points[count] = point;
        s.local[count++] = int32_t(local);
      });
      stored -= count;
      for (int64_t begin = 0; begin < count; begin += kBlock) {
        block.rows = smaller(kBlock, count - begin);
        block.kept = call_.kept + (stored + begin) * cell_.kept * packing_.width;
        for (int64_t row = 0; row < block.rows; ++row) add(task, s, t, row, s.points[begin + row], s.local[begin + row]);
        finish(task, s, s.points + begin, s.local + begin, sums);
      }
      release(this->progress(task, task.strip), wavefronts - t);
    }
    if (call_.dih) release(finished(task, task.order), 1);
  }

  void add(const Task& task, Scratch& s, int64_t t, int64_t row, const Point& point, int64_t local) {
    BackwardBlock<T>& block = *s.block;
    const Sample& sample = s.samples[local];
    const int64_t directions = problem_.directions, hidden = problem_.hidden, width = packing_.width;
    const int64_t at = sample.index * plan_.points + point.at, unit = at * directions + task.direction;
    s.inputs[row] = call_.x + at * problem_.inputs;
    block.h[row] = call_.y + unit * hidden;
    s.own[row] = block.delta[row] = in_ring(s, t, local, point.other);
    T* dh = s.dh + row * width;
    std::memcpy(dh, call_.dy + unit * hidden, sizeof(T) * hidden);
    std::memset(dh + hidden, 0, sizeof(T) * (width - hidden));
    T* dc = s.dc + row * width;
    if (cell_.memory) {
      block.c[row] = call_.c + unit * width;
      block.dc[row] = zeros_;
      if (cell_.feeds_memory || (call_.dcn && point.exit)) {
        std::memset(dc, 0, sizeof(T) * width);
        block.dc[row] = dc;
      }
    }
    for (int k = 0; k < problem_.ndim; ++k) {
      const bool enters = point.entry >> k & 1, leaves = point.exit >> k & 1;
      const int64_t face = enters || leaves ? plan_.face_row(task.direction, sample.index, k, point.at) : 0;
      const int64_t back = sample.step[k] * directions;
      block.h_prev[k][row] = !enters ? block.h[row] - back * hidden : call_.h0 ? call_.h0 + face * hidden : zeros_;
      if (cell_.memory)
        block.c_prev[k][row] = !enters ? block.c[row] - back * width : call_.c0 ? entry_ + face * width : zeros_;
      const T*& after = s.after[k][row];
      if (leaves) {
        after = zeros_;
        for (int64_t i = 0; call_.dhn && i < hidden; ++i) dh[i] += call_.dhn[face * hidden + i];
        for (int64_t i = 0; call_.dcn && i < hidden; ++i) dc[i] += call_.dcn[face * hidden + i];
      } else if (k == 0 && point.row == task.row_end - 1) {
        after = handed(task.direction, sample.index, point.other);
      } else {
        after = in_ring(s, t + 1, local, point.other + (k == 0 ? 0 : plan_.others_stride[k]));
      }
      block.carried[k][row] = cell_.carries() ? after + (cell_.lanes + k) * width : zeros_;
    }
  }

  void finish(const Task& task, Scratch& s, const Point* points, const int32_t* local, T* sums) {
    BackwardBlock<T>& block = *s.block;
    gather(s, states_ + task.direction * state_size_, s.dh);
    if (cell_.feeds_memory) gather(s, memories_ + task.direction * state_size_, s.dc);
    cell_.backward(block);
    for (int64_t row = 0; task.strip > 0 && row < block.rows; ++row)
      if (points[row].row == task.row_begin)
        std::memcpy(handed(task.direction, task.sample_begin + local[row], points[row].other), s.own[row],
                    sizeof(T) * this->record());
    if (sums) add_weights(s, sums);
    if (call_.dx) to_inputs(task, s, points, local);
    if (call_.dh0) {
      for (int k = 0; k < problem_.ndim; ++k) {
        to_face(task, s, points, local, k, states_ + task.direction * state_size_, cell_.carry_to_h, call_.dh0);
        if (call_.dc0) to_face(task, s, points, local, k, memories_ + task.direction * state_size_, true, call_.dc0);
      }
    }
  }

  // The gradients of the inputs.
  void to_inputs(const Task& task, Scratch& s, const Point* points, const int32_t* local) {
    const int64_t rows = s.block->rows, padded = padded_inputs();
    const T* weights = inputs_ + task.direction * input_size_;
    if (few_inputs()) {
      dots(s.own, rows, cell_.lanes * packing_.width, weights, problem_.inputs, s.through, padded);
    } else {
      std::memset(s.through, 0, sizeof(T) * rows * padded);
      for (int64_t begin = 0; begin < padded; begin += kPanel<T>)
        weights = send(s.own, rows, packing_.runs[0], weights, s.through + begin, padded);
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = (task.sample_begin + local[row]) * plan_.points + points[row].at;
      std::memcpy(call_.dx_each + (at * problem_.directions + task.direction) * problem_.inputs, s.through + row * padded,
                  sizeof(T) * problem_.inputs);
    }
  }

  // Adds rows of records times the weights of one panel of a run; returns the weights after them.
  const T* send(const T* const* records, int64_t rows, const Run& run, const T* weights, T* out, int64_t stride) const {
    Segment<T> segments[kMaxLanes];
    const int count = segments_of(records, run, segments);
    multiply(segments, count, rows, weights, static_cast<const T*>(nullptr), out, stride);
    return weights + packing_.transposed_rows(run) * kPanel<T>;
  }

  static constexpr int kMaxLanes = 3 * kMaxAxes + 3;

  int segments_of(const T* const* records, const Run& run, Segment<T>* segments) const {
    int count = 0;
    for (int lane = 0; lane < cell_.lanes; ++lane) {
      if (!packing_.enters(run, lane)) continue;
      const bool joins = count > 0 && packing_.width == problem_.hidden &&
                         segments[count - 1].offset + segments[count - 1].length == lane * packing_.width;
      if (joins) segments[count - 1].length += problem_.hidden;
      else segments[count++] = {records, lane * packing_.width, problem_.hidden};
    }
    return count;
  }

  // Adds what the successors of a block's rows sent through the weights of all axes.
  void gather(Scratch& s, const T* weights, T* out) {
    Segment<T> segments[kMaxAxes * kMaxLanes];
    int count = 0;
    for (int k = 0; k < problem_.ndim; ++k)
      count += segments_of(s.after[k], packing_.runs[1 + k], segments + count);
    const int64_t rows = problem_.ndim * packing_.transposed_rows(packing_.runs[1]);
    for (int64_t panel = 0; panel < packing_.panels; ++panel, weights += rows * kPanel<T>)
      multiply(segments, count, s.block->rows, weights, static_cast<const T*>(nullptr), out + panel * kPanel<T>,
               packing_.width);
  }

  // The gradients of the boundary state of axis k.
  void to_face(const Task& task, Scratch& s, const Point* points, const int32_t* local, int k, const T* weights,
               bool carried, T* face) {
    const T* records[kBlock];
    int64_t place[kBlock], count = 0;
    for (int64_t row = 0; row < s.block->rows; ++row) {
      if (!(points[row].entry >> k & 1)) continue;
      records[count] = s.own[row];
      place[count++] = plan_.face_row(task.direction, task.sample_begin + local[row], k, points[row].at);
    }
    if (count == 0) return;
    const int64_t width = packing_.width, rows = packing_.transposed_rows(packing_.runs[1]);
    std::memset(s.through, 0, sizeof(T) * count * width);
    const bool product = face == call_.dh0 || cell_.feeds_memory;
    for (int64_t panel = 0; product && panel < packing_.panels; ++panel)
      send(records, count, packing_.runs[1 + k], weights + (panel * problem_.ndim + k) * rows * kPanel<T>,
           s.through + panel * kPanel<T>, width);
    for (int64_t row = 0; row < count; ++row)
      for (int64_t i = 0; i < problem_.hidden; ++i)
        face[place[row] * problem_.hidden + i] =
            s.through[row * width + i] + (carried ? records[row][(cell_.lanes + k) * width + i] : T(0));
  }

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
        const int64_t column = lane * packing_.width + panel * kPanel<T>;
        // runs that lie side by side go together; the bias is the first of them
        int64_t begin = 0, length = 1;
        auto flush = [&] {
          outer(length, rows, s.features + begin, stride, s.own, column, sums);
          sums += length * kPanel<T>;
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
