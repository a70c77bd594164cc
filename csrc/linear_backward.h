// The way back through the linear layer.
#pragma once
#include "linear_layer.h"

namespace ndrnn::NDRNN_ISA {

// The way back: the same walk from its end. A message, the gradient of a predecessor's c, goes from every point to the
// predecessor along each axis.
template <class T>
class LinearLayerWayBack : LinearLayerWalk<T> {
  using Base = LinearLayerWalk<T>;
  using Base::plan_, Base::problem_, Base::layer_, Base::host_, Base::arena_, Base::lanes_, Base::panel_, Base::width_,
      Base::panels_, Base::parts_, Base::part_, Base::zeros_, Base::weights_;

 public:
  // Sums must not depend on the number of threads, and neither may the cut into tasks.
  LinearLayerWayBack(const Plan& plan, const LinearLayerBackward<T>& call, const Host& host)
      : Base(plan, call.forward, host, kTasksWanted), call_(call), column_(panel_for<T>(problem_.inputs)),
        columns_(ceil_div(problem_.inputs, column_) * column_), few_(2 * problem_.inputs <= kLanes<T>),
        groups_(larger(1, smaller(problem_.batch, ceil_div(kGroupsWanted, problem_.directions)))), trains_(call.dweight || call.dbias) {}

  bool run() {
    const int64_t tasks = problem_.directions * groups_ * parts_, workers = smaller(host_.threads, tasks);
    // one worker meets the sources in the order in which they are added up, and can do so at once
    at_once_ = workers == 1 || sources() == 1;
    const int64_t sums = trains_ ? problem_.directions * groups_ * panels_ * this->panel_size() : 0;
    Scratch unplaced;
    const int64_t bytes = place(unplaced, nullptr);
    char* scratch;
    const bool there = arena_.reserve([&](Layout& layout) {
      layout.place(zeros_, larger(panel_, column_));
      layout.place(weights_, problem_.directions * panels_ * this->panel_size());
      layout.place(turned_, call_.dx ? problem_.directions * panels_ * turned_size() : 0);
      layout.place(dx_each_, call_.dx && !at_once_ ? sources() * problem_.batch * plan_.points * problem_.inputs : 0);
      layout.place(sums_, sums);
      layout.place(scratch, workers * bytes);
    });
    if (!there) return false;
    std::memset(zeros_, 0, sizeof(T) * larger(panel_, column_));
    std::memset(sums_, 0, sizeof(T) * sums);
    if (at_once_) dx_each_ = call_.dx;
    this->pack_weights(weights_);
    if (call_.dx) turn_weights();
    pass(plan_, call_.dcn, call_.dc0);
    for (int64_t source = 0; call_.dx && source < (at_once_ ? 1 : sources()); ++source)
      blank(plan_, host_, dx_each_ + source * problem_.batch * plan_.points * problem_.inputs, problem_.inputs);
    share_out(tasks, workers, host_, [&](int64_t worker, int64_t number) {
      Scratch s;
      place(s, scratch + worker * bytes);
      const int64_t part = number % parts_, chunk = number / parts_, direction = chunk / groups_, group = chunk % groups_;
      const int64_t begin = part * part_, end = smaller(begin + part_, panels_);
      T* const sums = sums_ + chunk * panels_ * this->panel_size();
      for (int64_t sample = group * problem_.batch / groups_; sample < (group + 1) * problem_.batch / groups_; ++sample)
        with_ndim(problem_.ndim, [&](auto n) {
          if (layer_.even) sweep<true>(n, direction, sample, part, begin, end, sums, s);
          else sweep<false>(n, direction, sample, part, begin, end, sums, s);
        });
    });
    if (call_.dx && !at_once_) add_up_inputs();
    if (trains_) add_up_weights();
    return true;
  }

 private:
  static constexpr int64_t kTasksWanted = 4, kGroupsWanted = 64;

  struct Scratch {
    const T **inputs, **deltas;
    T *x, *sums, *dx, *dots, *ring, *message, *room;
  };

  int64_t sources() const { return problem_.directions * parts_; }
  int64_t turned_size() const { return (few_ ? problem_.inputs : columns_) * lanes_ * panel_; }

  int64_t place(Scratch& s, char* base) const {
    Layout layout(base);
    layout.place(s.inputs, kBlock);
    layout.place(s.deltas, kBlock);
    layout.place(s.x, kBlock * problem_.inputs);
    layout.place(s.sums, kBlock * lanes_ * panel_);  // pre-activations, then their gradients
    layout.place(s.dx, call_.dx ? kBlock * columns_ : 0);
    layout.place(s.dots, call_.dx && few_ ? kBlock * problem_.inputs : 0);
    layout.place(s.ring, part_ * (problem_.ndim - 1) * plan_.others * panel_);
    layout.place(s.message, part_ * panel_);         // along the last axis
    layout.place(s.room, 2 * problem_.ndim * problem_.extent[problem_.ndim - 1] * panel_);
    return layout.bytes();
  }

  // The weights as the product for dx reads them: panels of features, or, of few, rows of all lanes and units.
  void turn_weights() {
    const int64_t panels = problem_.directions * panels_;
    share_out(panels, smaller(host_.threads, panels), host_, [&](int64_t, int64_t number) {
      T* out = turned_ + number * turned_size();
      auto at = [&](int64_t lane, int64_t j, int64_t i) {
        const int64_t unit = number % panels_ * panel_ + j;
        if (unit >= problem_.hidden || i >= problem_.inputs) return T(0);
        return layer_.weight[this->weight_row(number / panels_, lane, unit) * problem_.inputs + i];
      };
      if (few_) {
        for (int64_t i = 0; i < problem_.inputs; ++i)
          for (int64_t lane = 0; lane < lanes_; ++lane)
            for (int64_t j = 0; j < panel_; ++j) *out++ = at(lane, j, i);
        return;
      }
      for (int64_t begin = 0; begin < problem_.inputs; begin += column_)
        for (int64_t lane = 0; lane < lanes_; ++lane)
          for (int64_t j = 0; j < panel_; ++j)
            for (int64_t i = begin; i < begin + column_; ++i) *out++ = at(lane, j, i);
    });
  }

  template <bool kEven, class N>
  void sweep(N n, int64_t direction, int64_t sample, int64_t part, int64_t panel_begin, int64_t panel_end, T* sums, const Scratch& s) {
    const Course course(plan_, direction, sample);
    const int64_t chain = direction * problem_.batch + sample, points = course.points(), inputs = problem_.inputs;
    const int64_t blocks = ceil_div(points, kBlock);
    for (int64_t block = blocks - 1; block >= 0; --block) {
      const int64_t begin = block * points / blocks, end = (block + 1) * points / blocks, rows = end - begin;
      this->find_inputs(course, begin, end, s.inputs);
      for (int64_t row = 0; row < rows; ++row) {  // in the cache, and at even distances for the weights' gradient
        T* const x = s.x + row * inputs;
        std::memcpy(x, s.inputs[row], sizeof(T) * inputs);
        s.inputs[row] = x;
        s.deltas[row] = s.sums + row * lanes_ * panel_;
      }
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        this->multiply_inputs(s.inputs, rows, weights_ + (direction * panels_ + panel) * this->panel_size(), s.sums);
        const int64_t local = panel - panel_begin;
        T* const gradient = trains_ ? sums + panel * this->panel_size() : nullptr;
        this->for_pieces(course, begin, end, true, [&](const Line& line, int64_t from, int64_t to, int64_t row) {
          retreat<kEven>(n, chain, course, line, from, to, panel * panel_, s.sums + row * lanes_ * panel_,
                         s.ring + (local * (n - 1) * plan_.others + line.other) * panel_, s.message + local * panel_, gradient,
                         s.room);
        });
        for (int64_t lane = 0; trains_ && lane < lanes_; ++lane) {
          T* const to = gradient + lane * this->lane_size() + panel_;
          if (panel_ == kLanes<T>) outer<T, 1>(inputs, rows, s.x, inputs, s.deltas, lane * panel_, to);
          else outer<T, 2>(inputs, rows, s.x, inputs, s.deltas, lane * panel_, to);
        }
        if (call_.dx) to_inputs(s, rows, turned_ + (direction * panels_ + panel) * turned_size(), panel > panel_begin);
      }
      if (!call_.dx) continue;
      const int64_t source = direction * parts_ + part;
      if (at_once_ && source > 0) {
        for_inputs(course, begin, end, [&](int64_t row, int64_t at) {
          add(s.dx + row * columns_, inputs, call_.dx + at * inputs);
        });
        continue;
      }
      T* const to = dx_each_ + source * problem_.batch * plan_.points * inputs;
      for_inputs(course, begin, end, [&](int64_t row, int64_t at) {
        std::memcpy(to + at * inputs, s.dx + row * columns_, sizeof(T) * inputs);
      });
    }
  }

  // The gradient of a block's inputs: (rows, columns), on top of what earlier panels gave.
  void to_inputs(const Scratch& s, int64_t rows, const T* weights, bool add) const {
    const int64_t length = lanes_ * panel_;
    if (few_) {
      dots(s.deltas, rows, length, weights, problem_.inputs, s.dots, problem_.inputs);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < problem_.inputs; ++i) {
          T& to = s.dx[row * columns_ + i];
          to = s.dots[row * problem_.inputs + i] + (add ? to : T(0));
        }
      return;
    }
    const Segment<T> segment{s.deltas, 0, length};
    for (int64_t begin = 0; begin < columns_; begin += column_, weights += length * column_)
      multiply(&segment, 1, rows, column_, weights, add ? nullptr : zeros_, Strided<T>{s.dx + begin, columns_});
  }

  template <class Visit>
  void for_inputs(const Course& course, int64_t begin, int64_t end, Visit&& visit) const {
    this->for_pieces(course, begin, end, false, [&](const Line& line, int64_t from, int64_t to, int64_t row) {
      const int64_t first = course.sample * plan_.points + line.at;
      for (int64_t j = from; j < to; ++j) visit(row + j - from, first + j * course.step[problem_.ndim - 1]);
    });
  }

  // The gradients of the pre-activations of the points [from, to) of a line, in the place of the pre-activations.
  template <bool kEven, class N>
  void retreat(N n, int64_t chain, const Course& course, const Line& line, int64_t from, int64_t to, int64_t unit, T* sums,
               T* ring, T* message, T* gradient, T* room) {
    constexpr int kMost = kMostAxes<N>;
    const int64_t direction = chain / problem_.batch, extent = problem_.extent[n - 1], step = course.step[n - 1];
    const int64_t each = plan_.others * panel_;  // of the messages along one axis
    const T* const c_line = layer_.c + (chain * plan_.points + line.place) * width_ + unit;
    Rows<const T> before[kMost], after[kMost];
    const int last = n - 1;
    for (int k = 0; k < n - 1; ++k) {
      T* const own = room + 2 * k * extent * panel_;
      if (line.position[k] == 0) before[k] = this->face_line(layer_.c0, chain, k, course, line.at, unit, own);
      else before[k] = {c_line - plan_.stride[k] * width_, width_};
      if (line.position[k] == course.size[k] - 1) after[k] = this->face_line(call_.dcn, chain, k, course, line.at, unit, own + extent * panel_);
      else after[k] = {ring + k * each + (k == 0 ? 0 : plan_.others_stride[k] * panel_), panel_};
    }
    T* const own = room + 2 * last * extent * panel_;
    const Rows<const T> entry = this->face_line(layer_.c0, chain, last, course, line.at, unit, own);
    if (to == course.length)
      std::memcpy(message, this->face_line(call_.dcn, chain, last, course, line.at + (to - 1) * step, unit, own + extent * panel_)[0],
                  sizeof(T) * panel_);
    const int64_t first = course.sample * plan_.points + line.at;
    const Vec<T> one = splat(T(1));
    for (int64_t v = 0; v < panel_; v += kLanes<T>) {
      const int64_t left = problem_.hidden - unit - v;
      Vec<T> come = load(message + v), c = load(c_line + (to - 1) * width_ + v), total[kMost + 3];
      for (int lane = 0; lane < n + 3; ++lane) total[lane] = splat(T(0));
      T* a = sums + (to - 1 - from) * lanes_ * panel_ + v;
      const T* dy = call_.dy + ((first + (to - 1) * step) * problem_.directions + direction) * problem_.hidden + unit + v;
      for (int64_t j = to - 1; j >= from; --j, a -= lanes_ * panel_, dy -= step * problem_.directions * problem_.hidden) {
        const Shares<T, kEven, kMost> shares(a, panel_, n);
        const Vec<T> g = tanh<T>(load(a + (n + 1) * panel_)), o = sigmoid<T>(load(a + (n + 2) * panel_));
        Vec<T> previous[kMost], delta[kMost + 3];
        for (int k = 0; k < n - 1; ++k) previous[k] = load(before[k][j] + v);
        previous[n - 1] = load(j > 0 ? c_line + (j - 1) * width_ + v : entry[0] + v);
        const Vec<T> dh = left > 0 ? load_part(dy, left) : splat(T(0));
        Vec<T> dc = dh * o + come;
        for (int k = 0; k < n - 1; ++k) dc += load(after[k][j] + v);
        if (left < kLanes<T>) dc = first_units(dc, left);
        shares.gradients(dc, g, previous, c, delta, n);
        delta[n + 1] = dc * shares.input * (one - g * g);
        delta[n + 2] = dh * c * o * (one - o);
        for (int lane = 0; lane < n + 3; ++lane) {
          if (left < kLanes<T>) delta[lane] = first_units(delta[lane], left);
          total[lane] += delta[lane];
          store(a + lane * panel_, delta[lane]);
        }
        for (int k = 0; k < n - 1; ++k) store(ring + k * each + j * panel_ + v, shares.kept[k] * dc);
        come = shares.kept[n - 1] * dc;
        c = previous[n - 1];
      }
      store(message + v, come);
      for (int lane = 0; gradient && lane < n + 3; ++lane) {
        T* const bias = gradient + lane * this->lane_size() + v;
        store(bias, load(bias) + total[lane]);
      }
    }
    if (!call_.dc0) return;
    for (int k = 0; k < n - 1; ++k)
      if (line.position[k] == 0)
        this->put_face(call_.dc0, chain, k, course, line.at + from * step, unit, to - from, {ring + k * each + from * panel_, panel_});
    if (from == 0) this->put_face(call_.dc0, chain, n - 1, course, line.at, unit, 1, {message, 0});
  }

  static NDRNN_INLINE void add(const T* from, int64_t count, T* to) {
    for (int64_t i = 0; i < count; i += kLanes<T>) {
      const int64_t left = count - i;
      store_part(to + i, load_part(to + i, left) + load_part(from + i, left), left);
    }
  }

  static NDRNN_INLINE Vec<T> first_units(Vec<T> v, int64_t count) { return first<T>(v, larger(0, count)); }

  void add_up_inputs() {
    const int64_t row = plan_.points * problem_.inputs, each = problem_.batch * row;
    constexpr int64_t kPiece = 4096;
    const int64_t pieces = ceil_div(each, kPiece);
    share_out(pieces, smaller(host_.threads, pieces), host_, [&](int64_t, int64_t number) {
      const int64_t begin = number * kPiece, end = smaller(each, begin + kPiece);
      for (int64_t i = begin; i < end; i += kLanes<T>) {
        const int64_t left = end - i;
        Vec<T> sum = load_part(dx_each_ + i, left);
        for (int64_t source = 1; source < sources(); ++source) sum += load_part(dx_each_ + source * each + i, left);
        store_part(call_.dx + i, sum, left);
      }
    });
  }

  void add_up_weights() {
    const int64_t panels = problem_.directions * panels_, size = panels_ * this->panel_size();
    share_out(panels, smaller(host_.threads, panels), host_, [&](int64_t, int64_t number) {
      const int64_t direction = number / panels_, panel = number % panels_;
      T* const sum = sums_ + direction * groups_ * size + panel * this->panel_size();
      for (int64_t group = 1; group < groups_; ++group)
        for (int64_t i = 0; i < this->panel_size(); ++i) sum[i] += sum[group * size + i];
      for (int64_t lane = 0; lane < lanes_; ++lane)
        for (int64_t j = 0; j < smaller(panel_, problem_.hidden - panel * panel_); ++j) {
          const int64_t row = this->weight_row(direction, lane, panel * panel_ + j);
          const T* from = sum + lane * this->lane_size() + j;
          if (call_.dbias) call_.dbias[row] = *from;
          for (int64_t i = 0; call_.dweight && i < problem_.inputs; ++i) call_.dweight[row * problem_.inputs + i] = from[(1 + i) * panel_];
        }
    });
  }

  const LinearLayerBackward<T>& call_;
  const int64_t column_, columns_;  // features in a panel, and all with their padding
  const bool few_;
  const int64_t groups_;            // of samples that share their sums
  const bool trains_;
  bool at_once_;
  T *turned_, *dx_each_, *sums_;
};

}  // namespace ndrnn::NDRNN_ISA
