// The linear layer: gates from the input alone, one product, and the recurrence right after it, block by block.
//
// Gates are never written to memory. The way back multiplies again, which costs no more than to write and read them,
// and keeps of a training step nothing but c.
#pragma once
#include "linear.h"
#include "product.h"
#include "pack.h"

namespace ndrnn::NDRNN_ISA {

// The shares of the input and of every predecessor, and what the rule's gradient needs beside them.
template <class T, bool kEven, int kMost>
struct Shares {
  Vec<T> input, kept[kMost], open;

  // Softmax, or at most an even share for every predecessor and an input gate on what they leave.
  template <class N>
  NDRNN_INLINE Shares(const T* logits, int64_t apart, N n) {
    const Vec<T> one = splat(T(1));
    if constexpr (kEven) {
      Vec<T> rest = splat(T(0));
      const Vec<T> most = splat(T(1) / T(n));
      for (int k = 0; k < n; ++k) {
        const Vec<T> e = exp<T>(-load(logits + (1 + k) * apart));
        kept[k] = most / (one + e);
        rest += e * kept[k];
      }
      open = sigmoid<T>(load(logits));
      input = open * rest;
    } else {
      Vec<T> most = input = load(logits);
      for (int k = 0; k < n; ++k) {
        kept[k] = load(logits + (1 + k) * apart);
        most = kept[k] > most ? kept[k] : most;
      }
      Vec<T> sum = input = exp<T>(input - most);
      for (int k = 0; k < n; ++k) sum += kept[k] = exp<T>(kept[k] - most);
      const Vec<T> scale = one / sum;
      input *= scale;
      for (int k = 0; k < n; ++k) kept[k] *= scale;
    }
  }

  // The gradients of the logits, given those of c and what was shared out: g and the predecessors' memories.
  template <class N>
  NDRNN_INLINE void gradients(Vec<T> dc, Vec<T> g, const Vec<T>* before, Vec<T> c, Vec<T>* to, N n) const {
    const Vec<T> one = splat(T(1));
    if constexpr (kEven) {
      to[0] = dc * g * input * (one - open);
      for (int k = 0; k < n; ++k) to[1 + k] = dc * (before[k] - g * open) * kept[k] * (one - splat(T(n)) * kept[k]);
    } else {
      to[0] = dc * input * (g - c);
      for (int k = 0; k < n; ++k) to[1 + k] = dc * kept[k] * (before[k] - c);
    }
  }
};

// What forward and back share: packed weights, the walk in blocks, and the gates' pre-activations.
template <class T>
class LinearLayerWalk {
 protected:
  LinearLayerWalk(const Plan& plan, const LinearLayer<T>& layer, const Host& host, int64_t tasks_wanted)
      : plan_(plan), problem_(plan.problem), layer_(layer), host_(host), arena_(host), lanes_(problem_.ndim + 3),
        panel_(panel_for<T>(problem_.hidden)), width_(ceil_div(problem_.hidden, panel_) * panel_), panels_(width_ / panel_) {
    // units go to tasks of their own where there are too few samples and directions
    const int64_t chains = larger(1, problem_.directions * problem_.batch);
    parts_ = smaller(panels_, ceil_div(tasks_wanted, chains));
    part_ = ceil_div(panels_, parts_);
    parts_ = ceil_div(panels_, part_);
  }

  int64_t lane_size() const { return (1 + problem_.inputs) * panel_; }  // the bias, then a row for every feature
  int64_t panel_size() const { return lanes_ * lane_size(); }
  int64_t weight_row(int64_t direction, int64_t lane, int64_t unit) const {
    return (direction * lanes_ + lane) * problem_.hidden + unit;
  }

  void pack_weights(T* out) const {
    const int64_t panels = problem_.directions * panels_;
    share_out(panels, smaller(host_.threads, panels), host_, [&](int64_t, int64_t number) {
      for (int64_t lane = 0; lane < lanes_; ++lane)
        for (int64_t j = 0; j < panel_; ++j) {
          const int64_t unit = number % panels_ * panel_ + j;
          const bool padding = unit >= problem_.hidden;
          const int64_t row = padding ? 0 : weight_row(number / panels_, lane, unit);
          T* to = out + number * panel_size() + lane * lane_size() + j;
          *to = padding || !layer_.bias ? T(0) : layer_.bias[row];
          for (int64_t i = 0; i < problem_.inputs; ++i) *(to += panel_) = padding ? T(0) : layer_.weight[row * problem_.inputs + i];
        }
    });
  }

  // The rows of x from point `begin` of a course on.
  void find_inputs(const Course& course, int64_t begin, int64_t end, const T** to) const {
    for (int64_t q = begin; q < end;) {
      const Line line(plan_, course, q / course.length);
      const int64_t step = course.step[problem_.ndim - 1], first = course.sample * plan_.points + line.at;
      for (int64_t j = q % course.length; j < course.length && q < end; ++j, ++q) *to++ = layer_.x + (first + j * step) * problem_.inputs;
    }
  }

  // Pre-activations of a panel: (rows, lanes, panel).
  void multiply_inputs(const T* const* inputs, int64_t rows, const T* weights, T* sums) const {
    const Segment<T> segment{inputs, 0, problem_.inputs};
    for (int64_t lane = 0; lane < lanes_; ++lane, weights += lane_size())
      multiply(&segment, 1, rows, panel_, weights + panel_, weights, Strided<T>{sums + lane * panel_, lanes_ * panel_});
  }

  // Rows of a face as the line meets them, `panel` units from `unit` on, padded. Zeros without a face.
  Rows<const T> face_line(const T* faces, int64_t chain, int k, const Course& course, int64_t at, int64_t unit, T* room) const {
    if (!faces) return {zeros_, 0};
    const int64_t count = smaller(panel_, problem_.hidden - unit), step = course.step[problem_.ndim - 1];
    const T* from = faces + ((chain * plan_.face_points()) + plan_.face_row(0, 0, k, at)) * problem_.hidden + unit;
    const bool along = k < problem_.ndim - 1;  // the face of the last axis has one row on a line
    for (int64_t j = 0; j < (along ? course.length : 1); ++j) {
      std::memcpy(room + j * panel_, from + j * step * problem_.hidden, sizeof(T) * count);
      std::memset(room + j * panel_ + count, 0, sizeof(T) * (panel_ - count));
    }
    return {room, panel_};
  }

  // Writes rows of a panel to a face, likewise.
  void put_face(T* faces, int64_t chain, int k, const Course& course, int64_t at, int64_t unit, int64_t count, Rows<const T> rows) const {
    const int64_t units = smaller(panel_, problem_.hidden - unit), step = course.step[problem_.ndim - 1];
    T* to = faces + ((chain * plan_.face_points()) + plan_.face_row(0, 0, k, at)) * problem_.hidden + unit;
    for (int64_t j = 0; j < count; ++j) std::memcpy(to + j * step * problem_.hidden, rows[j], sizeof(T) * units);
  }

  // Calls visit(Line, first point of it, end, row in the block) for the pieces of lines in [begin, end), last first if
  // it goes back.
  template <class Visit>
  void for_pieces(const Course& course, int64_t begin, int64_t end, bool back, Visit&& visit) const {
    const int64_t first = begin / course.length, last = (end - 1) / course.length;
    for (int64_t i = 0; i <= last - first; ++i) {
      const int64_t number = back ? last - i : first + i, start = number * course.length;
      const int64_t from = larger(begin, start), to = smaller(end, start + course.length);
      visit(Line(plan_, course, number), from - start, to - start, from - begin);
    }
  }

  const Plan& plan_;
  const Problem& problem_;
  const LinearLayer<T>& layer_;
  const Host& host_;
  Arena arena_;
  const int64_t lanes_, panel_, width_, panels_;
  int64_t parts_, part_;  // groups of panels that are tasks of their own, and panels in one
  T *zeros_, *weights_;
};

}  // namespace ndrnn::NDRNN_ISA
