// The points of a block in the order of coding, and where their neighbours are.
#pragma once
#include "memory.h"
#include "plane.h"

namespace ndrnn::NDRNN_ISA {

// Lines run along the last axis. At step t a line has at most one point, so that a wavefront is a list of lines.
class Lattice {
 public:
  explicit Lattice(const CodecPlane& plane) : plane_(plane), last_(plane.axes - 1), length_(plane.size[last_]) {
    for (int k = 0; k < last_; ++k) lines_ *= plane.size[k];
    points_ = lines_ * length_;
    coordinates_.make(lines_ * kMostAxes);
    begin_.make(lines_);
    int64_t last = 0;
    for (int64_t line = 0; line < lines_; ++line) {
      int64_t rest = line;
      for (int k = last_ - 1; k >= 0; --k) {
        coordinates_[line * kMostAxes + k] = int32_t(rest % plane.size[k]);
        begin_[line] += plane.slope[k] * (rest % plane.size[k]);
        rest /= plane.size[k];
      }
      if (begin_[line] > last) last = begin_[line];
    }
    steps_ = last + length_;
    line_.make(lines_);
    for (int64_t t = 0; t < steps_; ++t) {
      collect(t);
      if (count_ > most_) most_ = count_;
    }
  }

  int64_t lines() const { return lines_; }
  int64_t points() const { return points_; }
  int64_t steps() const { return steps_; }
  int64_t most() const { return most_; }  // points in the largest wavefront
  int64_t count() const { return count_; }
  int64_t line(int64_t p) const { return line_[p]; }

  // Finds the wavefront of step t.
  void collect(int64_t t) {
    t_ = t;
    count_ = 0;
    for (int64_t line = 0; line < lines_; ++line)
      if (t >= begin_[line] && t < begin_[line] + length_) line_[count_++] = line;
  }

  // Coordinate k of the wavefront's point p, and its index in the block.
  int32_t coordinate(int64_t p, int k) const {
    const int64_t line = line_[p];
    return k == last_ ? int32_t(t_ - begin_[line]) : coordinates_[line * kMostAxes + k];
  }
  int64_t index(int64_t p) const { return line_[p] * length_ + (t_ - begin_[line_[p]]); }

  // The line of the predecessor along axis k, or -1 where there is none.
  int64_t line_before(int64_t p, int k) const {
    if (coordinate(p, k) == 0) return -1;
    int64_t stride = k == last_ ? 0 : 1;
    for (int j = last_ - 1; j > k; --j) stride *= plane_.size[j];
    return line_[p] - stride;
  }

  // The index of the earlier point that stands for the neighbour of p at an offset; -1 if p is the block's first point.
  // Coordinates outside are moved to the nearest inside. Where that is no longer earlier, the nearest predecessor
  // along the last axis that has one takes its place.
  int64_t earlier(int64_t p, const int32_t* offset) const {
    int first = 0;
    while (offset[first] == 0) ++first;
    return coordinate(p, first) == 0 ? nearest(p) : clamped(p, offset);
  }

  // The index of the point nearest to an offset, where all points are known.
  int64_t clamped(int64_t p, const int32_t* offset) const {
    int64_t at = 0;
    for (int k = 0; k <= last_; ++k) {
      int64_t x = int64_t(coordinate(p, k)) + offset[k];
      x = x < 0 ? 0 : x >= plane_.size[k] ? plane_.size[k] - 1 : x;
      at = at * plane_.size[k] + x;
    }
    return at;
  }

 private:
  int64_t nearest(int64_t p) const {
    int64_t stride = 1;
    for (int k = last_; k >= 0; stride *= plane_.size[k], --k)
      if (coordinate(p, k) > 0) return index(p) - stride;
    return -1;
  }

  const CodecPlane& plane_;
  int last_;
  int64_t length_, lines_ = 1, points_ = 0, steps_ = 0, most_ = 0, count_ = 0, t_ = 0;
  Array<int32_t> coordinates_;
  Array<int64_t> begin_, line_;
};

}  // namespace ndrnn::NDRNN_ISA
