// The linear layer forward: products of a block with a panel of weights, then its gates and states.
#pragma once
#include "linear_layer.h"

namespace ndrnn::NDRNN_ISA {

template <class T>
class LinearLayerForward : LinearLayerWalk<T> {
  using Base = LinearLayerWalk<T>;
  using Base::plan_, Base::problem_, Base::layer_, Base::host_, Base::arena_, Base::lanes_, Base::panel_, Base::width_,
      Base::panels_, Base::parts_, Base::part_, Base::zeros_, Base::weights_;

 public:
  LinearLayerForward(const Plan& plan, const LinearLayer<T>& call, const Host& host)
      : Base(plan, call, host, 4 * host.threads) {}

  bool run() {
    const int64_t tasks = problem_.batch * problem_.directions * parts_, workers = smaller(host_.threads, tasks);
    Scratch unplaced;
    const int64_t bytes = place(unplaced, nullptr);
    char* scratch;
    const bool there = arena_.reserve([&](Layout& layout) {
      layout.place(zeros_, panel_);
      layout.place(weights_, problem_.directions * panels_ * this->panel_size());
      layout.place(scratch, workers * bytes);
    });
    if (!there) return false;
    std::memset(zeros_, 0, sizeof(T) * panel_);
    this->pack_weights(weights_);
    blank(plan_, host_, layer_.y, problem_.directions * problem_.hidden);
    pass(plan_, layer_.c0, layer_.cn);
    share_out(tasks, workers, host_, [&](int64_t worker, int64_t number) {
      Scratch s;
      place(s, scratch + worker * bytes);
      const int64_t chain = number / parts_, part = number % parts_;
      with_ndim(problem_.ndim, [&](auto n) {
        const int64_t begin = part * part_, end = smaller(begin + part_, panels_);
        if (layer_.even) sweep<true>(n, chain, begin, end, s);
        else sweep<false>(n, chain, begin, end, s);
      });
    });
    return true;
  }

 private:
  struct Scratch {
    const T** inputs;
    T *sums, *ring, *last, *room;
  };

  int64_t place(Scratch& s, char* base) const {
    Layout layout(base);
    layout.place(s.inputs, kBlock);
    layout.place(s.sums, kBlock * lanes_ * panel_);
    layout.place(s.ring, part_ * plan_.others * panel_);                       // c of the last points met, see `other`
    layout.place(s.last, part_ * panel_);                                      // c of the very last
    layout.place(s.room, problem_.ndim * problem_.extent[problem_.ndim - 1] * panel_);  // boundary states on a line
    return layout.bytes();
  }

  template <bool kEven, class N>
  void sweep(N n, int64_t chain, int64_t panel_begin, int64_t panel_end, const Scratch& s) {
    const int64_t direction = chain / problem_.batch, sample = chain % problem_.batch;
    const Course course(plan_, direction, sample);
    in_blocks(0, course.points(), kBlock, [&](int64_t begin, int64_t end) {
      this->find_inputs(course, begin, end, s.inputs);
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        this->multiply_inputs(s.inputs, end - begin, weights_ + (direction * panels_ + panel) * this->panel_size(), s.sums);
        const int64_t local = panel - panel_begin;
        this->for_pieces(course, begin, end, false, [&](const Line& line, int64_t from, int64_t to, int64_t row) {
          advance<kEven>(n, chain, course, line, from, to, panel * panel_, s.sums + row * lanes_ * panel_,
                         s.ring + (local * plan_.others + line.other) * panel_, s.last + local * panel_, s.room);
        });
      }
    });
  }

  // The states of the points [from, to) of a line, a panel of units from `unit` on.
  template <bool kEven, class N>
  void advance(N n, int64_t chain, const Course& course, const Line& line, int64_t from, int64_t to, int64_t unit,
               const T* sums, T* ring, T* last, T* room) {
    const int64_t direction = chain / problem_.batch, extent = problem_.extent[n - 1], step = course.step[n - 1];
    constexpr int kMost = kMostAxes<N>;
    Rows<const T> before[kMost];
    for (int k = 0; k < n - 1; ++k) {
      if (line.position[k] == 0) before[k] = this->face_line(layer_.c0, chain, k, course, line.at, unit, room + k * extent * panel_);
      else before[k] = {ring - (k == 0 ? 0 : plan_.others_stride[k] * panel_), panel_};
    }
    if (from == 0) {
      const Rows<const T> entry = this->face_line(layer_.c0, chain, n - 1, course, line.at, unit, room + (n - 1) * extent * panel_);
      std::memcpy(last, entry[0], sizeof(T) * panel_);
    }
    const int64_t first = course.sample * plan_.points + line.at;
    T* const kept = layer_.c ? layer_.c + (chain * plan_.points + line.place) * width_ + unit : nullptr;
    for (int64_t v = 0; v < panel_; v += kLanes<T>) {
      const int64_t left = problem_.hidden - unit - v;
      Vec<T> c = load(last + v);
      const T* a = sums + v;
      T* y = layer_.y + ((first + from * step) * problem_.directions + direction) * problem_.hidden + unit + v;
      for (int64_t j = from; j < to; ++j, a += lanes_ * panel_, y += step * problem_.directions * problem_.hidden) {
        const Shares<T, kEven, kMost> shares(a, panel_, n);
        const Vec<T> g = tanh<T>(load(a + (n + 1) * panel_)), o = sigmoid<T>(load(a + (n + 2) * panel_));
        Vec<T> sum = shares.input * g;
        for (int k = 0; k < n - 1; ++k) sum += shares.kept[k] * load(before[k][j] + v);
        c = sum + shares.kept[n - 1] * c;
        if (n > 1) store(ring + j * panel_ + v, c);
        if (kept) store(kept + j * width_ + v, c);
        if (left > 0) store_part(y, o * c, left);
      }
      store(last + v, c);
    }
    if (!layer_.cn) return;
    for (int k = 0; k < n - 1; ++k)
      if (line.position[k] == course.size[k] - 1)
        this->put_face(layer_.cn, chain, k, course, line.at + from * step, unit, to - from, {ring + from * panel_, panel_});
    if (to == course.length) this->put_face(layer_.cn, chain, n - 1, course, line.at + (to - 1) * step, unit, 1, {last, 0});
  }
};

}  // namespace ndrnn::NDRNN_ISA
