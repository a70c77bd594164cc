// How a lattice is walked: cut into strips of rows of the first axis, each swept wavefront by wavefront.
//
// A strip is a tile: it needs the last row of the strip before it and nothing else. Strips are handed out in order,
// so that one only ever waits for strips that somebody already works on; any number of threads comes to an end, and
// where there are fewer pairs of direction and sample than threads, consecutive strips overlap like a pipeline.
#pragma once
#include <sched.h>

#include "problem.h"
#include "simd.h"

namespace ndrnn::NDRNN_ISA {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The cut depends on the problem alone, never on the number of threads: sums over strips are then the same always.
struct Plan {
  Problem problem;
  int64_t stride[kMaxNdim];       // of the lattice, in points
  int64_t others_stride[kMaxNdim];  // of the lattice without its first axis
  int64_t face_start[kMaxNdim + 1];  // where each face begins among the face points
  int64_t points, others;         // of the lattice, and of it without its first axis
  int64_t reach;                  // L1 distance across the other axes
  int64_t group, groups;          // samples that walk together, and how many such groups
  int64_t rows, strips;           // of the first axis in a strip, and strips
  int64_t tasks;
  int64_t front;                  // no wavefront of a strip has more points

  explicit Plan(const Problem& p) : problem(p) {
    const int n = p.ndim;
    points = others = 1;
    reach = 0;
    face_start[0] = 0;
    for (int k = n - 1; k >= 0; --k) {
      stride[k] = points;
      others_stride[k] = others;
      points *= p.extent[k];
      if (k > 0) {
        others *= p.extent[k];
        reach += p.extent[k] - 1;
      }
    }
    for (int k = 0; k < n; ++k) {
      int64_t face = 1;
      for (int j = 0; j < n; ++j) face *= j == k ? 1 : p.extent[j];
      face_start[k + 1] = face_start[k] + face;
    }
    rows = group = groups = front = 1;
    strips = tasks = 0;
    if (points == 0 || p.batch == 0) return;
    // Enough rows a wavefront to reuse the weights, enough tasks to share out, and little enough to stay in cache.
    constexpr int64_t kRowsWanted = 48, kRowsLeast = 8, kTasksWanted = 8, kStripMost = 64, kStripMostOfMany = 12;
    const int64_t first = p.extent[0], strip_most = n == 1 ? first : n == 2 ? kStripMost : kStripMostOfMany;
    strips = larger(1, ceil_div(first, larger(1, strip_most)));
    rows = ceil_div(first, strips);
    const int64_t mean_front = larger(1, points / first * rows / (rows + reach));
    groups = ceil_div(p.batch, larger(1, kRowsWanted / mean_front));
    while (p.directions * groups < kTasksWanted && groups < p.batch && p.batch / (2 * groups) * mean_front >= kRowsLeast)
      groups *= 2;
    group = ceil_div(p.batch, groups);
    groups = ceil_div(p.batch, group);
    if (n > 1) strips = larger(strips, smaller(ceil_div(kTasksWanted, p.directions * groups), first / kRowsLeast));
    rows = ceil_div(first, strips);  // evenly: a last strip of a few rows would leave threads idle
    strips = ceil_div(first, rows);
    tasks = strips * groups * p.directions;
    front = group;
    if (n > 1) front *= others / p.extent[n - 1] * smaller(rows, p.extent[n - 1]);
  }

  int64_t face_points() const { return face_start[problem.ndim]; }

  // Row of a packed face tensor for the point `at` of face k.
  int64_t face_row(int64_t direction, int64_t sample, int k, int64_t at) const {
    const int64_t on_face = at / (stride[k] * problem.extent[k]) * stride[k] + at % stride[k];
    return (direction * problem.batch + sample) * face_points() + face_start[k] + on_face;
  }

  int64_t size(int64_t sample, int k) const {
    return problem.sizes ? problem.sizes[sample * problem.ndim + k] : problem.extent[k];
  }
};

struct Task {
  int64_t strip, group, direction;
  int64_t sample_begin, sample_end, row_begin, row_end;
  int64_t order;  // among the tasks of its direction

  // Tasks are numbered so that those before come first: strip by strip, from the last one for the way back.
  Task(const Plan& plan, int64_t number, bool way_back) {
    const int64_t directions = plan.problem.directions;
    direction = number % directions;
    order = number / directions;
    group = order % plan.groups;
    strip = way_back ? plan.strips - 1 - order / plan.groups : order / plan.groups;
    sample_begin = group * plan.group;
    sample_end = smaller(sample_begin + plan.group, plan.problem.batch);
    row_begin = strip * plan.rows;
    row_end = smaller(row_begin + plan.rows, plan.problem.extent[0]);
  }

  // The chain of strips that this one is part of.
  int64_t chain(const Plan& plan) const { return direction * plan.groups + group; }

  int64_t wavefronts(const Plan& plan) const { return row_end - row_begin + plan.reach; }
};

// One sample as one direction sees it: `origin` and `step` lead through its points in the lattice's own order.
struct Sample {
  int64_t index, rows, origin;
  int64_t size[kMaxNdim], step[kMaxNdim];

  Sample() = default;
  Sample(const Plan& plan, const Task& task, int64_t sample) : index(sample), origin(0), size{}, step{} {
    const int n = plan.problem.ndim;
    const int64_t* signs = plan.problem.signs + task.direction * n;
    bool empty = false;
    for (int k = 0; k < n; ++k) {
      size[k] = plan.size(sample, k);
      empty = empty || size[k] == 0;
      step[k] = signs[k] * plan.stride[k];
      if (signs[k] < 0) origin += (size[k] - 1) * plan.stride[k];
    }
    rows = empty ? 0 : larger(0, smaller(task.row_end, size[0]) - task.row_begin);
  }

  int64_t points(const Plan& plan) const {
    int64_t count = rows;
    for (int k = 1; k < plan.problem.ndim; ++k) count *= size[k];
    return count;
  }
};

// A point of a strip. Bit k of `entry` or `exit`: the point lies on that face of the sample, as the direction sees it.
struct Point {
  int64_t at;     // in the lattice, row-major
  int64_t other;  // in the lattice without its first axis, as the direction sees it
  int64_t row;    // on the first axis, as the direction sees it
  uint32_t entry, exit;
};

// Calls visit(local sample, Point) for the points of wavefront t of a strip, always in the same order.
template <class Visit>
inline void for_wavefront(const Plan& plan, const Task& task, const Sample* samples, int64_t t, Visit&& visit) {
  const int n = plan.problem.ndim, last = n - 1;
  for (int64_t s = 0; s < task.sample_end - task.sample_begin; ++s) {
    const Sample& sample = samples[s];
    if (sample.rows == 0) continue;
    auto visit_line = [&](int64_t rest, Point line) {
      // rest = distance left for the row within the strip and the last axis
      const bool has_last = last > 0;
      const int64_t begin = has_last ? larger(0, rest - (sample.rows - 1)) : 0;
      const int64_t end = has_last ? smaller(sample.size[last] - 1, rest) : (rest < sample.rows ? 0 : -1);
      for (int64_t j = begin; j <= end; ++j) {
        Point point = line;
        point.row = task.row_begin + rest - j;
        point.at += point.row * sample.step[0];
        if (has_last) {
          point.at += j * sample.step[last];
          point.other += j;
          point.entry |= uint32_t(j == 0) << last;
          point.exit |= uint32_t(j == sample.size[last] - 1) << last;
        }
        point.entry |= uint32_t(point.row == 0);
        point.exit |= uint32_t(point.row == sample.size[0] - 1);
        visit(s, point);
      }
    };
    if (n <= 2) {
      visit_line(t, Point{sample.origin, 0, 0, 0, 0});
      continue;
    }
    int64_t position[kMaxNdim] = {};
    while (true) {  // over the axes between the first and the last
      Point line{sample.origin, 0, 0, 0, 0};
      int64_t rest = t;
      for (int k = 1; k < last; ++k) {
        rest -= position[k];
        line.at += position[k] * sample.step[k];
        line.other += position[k] * plan.others_stride[k];
        line.entry |= uint32_t(position[k] == 0) << k;
        line.exit |= uint32_t(position[k] == sample.size[k] - 1) << k;
      }
      if (rest >= 0) visit_line(rest, line);
      int k = last - 1;
      while (k >= 1 && ++position[k] == sample.size[k]) position[k--] = 0;
      if (k < 1) break;
    }
  }
}

// The points of a wavefront.
struct Front {
  Point* points;
  int32_t* local;  // their samples
  int64_t count;

  void gather(const Plan& plan, const Task& task, const Sample* samples, int64_t t) {
    count = 0;
    for_wavefront(plan, task, samples, t, [&](int64_t sample, const Point& point) {
      points[count] = point;
      local[count++] = int32_t(sample);
    });
  }
};

// Sends for `count` elements at a distance from an address; it need not lie in any array.
template <class T>
inline void prefetch(const T* from, int64_t distance, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(from) + distance * int64_t(sizeof(T));
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(reinterpret_cast<const void*>(begin + i * sizeof(T)));
}

// Waits until ready() holds, which another thread will bring about.
template <class Ready>
inline void wait_until(Ready&& ready) {
  for (int64_t spins = 0; !ready(); ++spins) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    if (spins > 256) sched_yield();
  }
}

inline int64_t acquire(const int64_t* value) { return __atomic_load_n(value, __ATOMIC_ACQUIRE); }
inline void release(int64_t* value, int64_t to) { __atomic_store_n(value, to, __ATOMIC_RELEASE); }

// Runs work(worker, task number) for every task, in order of their numbers, on the caller's thread pool.
template <class Work>
inline void share_out(int64_t tasks, int64_t workers, const Host& host, Work&& work) {
  struct State {
    int64_t tasks, next;
    Work& work;
  } state{tasks, 0, work};
  auto body = [](void* pointer, int64_t begin, int64_t end) {
    State& s = *static_cast<State*>(pointer);
    // a pool that runs several of the loop's steps on one thread hands them over together: one worker is enough
    (void)end;
    for (int64_t task; (task = __atomic_fetch_add(&s.next, 1, __ATOMIC_RELAXED)) < s.tasks;) s.work(begin, task);
  };
  if (tasks == 0) return;
  if (workers <= 1) return body(&state, 0, 1);
  host.run(workers, body, &state);
}

// Calls visit(begin, end) for blocks of at most `most` of the rows [begin, end), all of about the same size.
template <class Visit>
inline void in_blocks(int64_t begin, int64_t end, int64_t most, Visit&& visit) {
  const int64_t count = end - begin, blocks = ceil_div(count, most);
  for (int64_t block = 0; block < blocks; ++block)
    visit(begin + block * count / blocks, begin + (block + 1) * count / blocks);
}

// How many workers `count` rows are dealt out to: each gets enough of them to reuse the weights.
inline int64_t workers_for(int64_t count, const Host& host) {
  constexpr int64_t kRowsLeast = 8;
  return smaller(host.threads, ceil_div(count, kRowsLeast));
}

// Runs work(worker, begin, end) for blocks of at most `most` rows. Every worker has an even share of them, always the
// same rows, so that what it has left in its cache is what it asks for in the next call.
template <class Work>
inline void deal_out(int64_t count, int64_t workers, int64_t most, const Host& host, Work&& work) {
  struct State {
    int64_t count, workers, most;
    Work& work;
  } state{count, workers, most, work};
  auto body = [](void* pointer, int64_t first, int64_t last) {
    const State& s = *static_cast<State*>(pointer);
    for (int64_t worker = first; worker < last; ++worker)
      in_blocks(worker * s.count / s.workers, (worker + 1) * s.count / s.workers, s.most,
                [&](int64_t begin, int64_t end) { s.work(worker, begin, end); });
  };
  if (workers <= 1) return body(&state, 0, workers);
  host.run(workers, body, &state);
}

// Lays arrays out one after the other: first to count their bytes, then, given memory, to place them.
class Layout {
 public:
  explicit Layout(char* base) : base_(base) {}
  template <class U>
  void place(U*& pointer, int64_t count) {
    pointer = base_ ? reinterpret_cast<U*>(base_ + bytes_) : nullptr;
    bytes_ += ceil_div(count * int64_t(sizeof(U)), 64) * 64;
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

// Memory that goes back when its owner does. Not a standard container, see simd.h.
class Arena {
 public:
  explicit Arena(const Host& host) : host_(host) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    if (memory_) host_.give(memory_, bytes_);
  }

  // Lays arrays out with place(layout): once to count, once for good. False where there is not enough memory.
  template <class Place>
  bool reserve(Place&& place) {
    Layout count(nullptr);
    place(count);
    bytes_ = count.bytes();
    memory_ = host_.take(bytes_);
    if (!memory_) return false;
    Layout layout(static_cast<char*>(memory_));
    place(layout);
    return true;
  }

 private:
  const Host& host_;
  void* memory_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace ndrnn::NDRNN_ISA
