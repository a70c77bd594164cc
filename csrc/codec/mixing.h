// Adaptive mixing, in integers: a decision's probability by the model and those of counters that learn while the block
// is coded are added up as weighted log-odds, with weights that learn as well.
#pragma once
#include "arithmetic.h"
#include "memory.h"
#include "plane.h"
#include "range.h"

namespace ndrnn::NDRNN_ISA {

// Log-odds in units of 1/256 nat, and back to probabilities in units of 2^-16, each 1 to 65535.
constexpr int kMostOdds = 2839;

class OddsTables {
 public:
  OddsTables() {
    for (int x = -kMostOdds; x <= kMostOdds; ++x) {
      const float p = logistic(all(float(x) * 0.00390625f))[0] * 65536.0f + 0.5f;
      probability_[x + kMostOdds] = uint16_t(p < 1.0f ? 1 : p > 65535.0f ? 65535 : int(p));
    }
    // the least log-odds whose probability is at least p
    for (int p = 0, x = -kMostOdds; p < 65536; ++p) {
      while (x < kMostOdds && probability_[x + kMostOdds] < p) ++x;
      odds_[p] = int16_t(x);
    }
  }
  int odds(int p) const { return odds_[p]; }
  int probability(int odds) const {
    return probability_[(odds < -kMostOdds ? -kMostOdds : odds > kMostOdds ? kMostOdds : odds) + kMostOdds];
  }

 private:
  uint16_t probability_[2 * kMostOdds + 1];
  int16_t odds_[65536];
};

inline const OddsTables& odds_tables() {
  static const OddsTables tables;
  return tables;
}

// A probability that counts: the more often it was asked, the slower it moves.
struct Counter {
  uint16_t p, n;
};

class Mixing {
 public:
  static constexpr int kNeighbors = 7;  // W, N, NW, NE, WW, NN, and the point before along the first axis
  static constexpr int kContexts = 7, kInputs = kContexts + 2, kSets = 3;

  Mixing(const CodecPlane& plane, int64_t points, int64_t stride)
      : plane_(plane), tables_(odds_tables()), log_(log_size(points)), table_(int64_t(kContexts) << log_),
        hashes_(stride * kContexts), lines_(stride * kContexts), activity_(stride), flat_(stride) {
    for (int64_t i = 0; i < int64_t(kContexts) << log_; ++i) table_[i].p = 32768;
    for (int s = 0; s < kSets; ++s) {
      weights_[s].make(kMostSets * kInputs);
      for (int64_t i = 0; i < kMostSets; ++i) weights_[s][i * kInputs] = s == 0 ? 65536 : 0;
    }
    refined_.make(kLevels * 64 * kKnots);
    for (int64_t i = 0; i < kLevels * 64 * kKnots; ++i)
      refined_[i] = uint16_t(tables_.probability(int(i % kKnots) * kKnotStep - kMostOdds));
  }

  // What point p of the wavefront sees: the values of its neighbours and of the plane before.
  void see(int64_t p, const int (&v)[kNeighbors], int other) {
    const int w = v[0], n = v[1], nw = v[2], ne = v[3], ww = v[4], nn = v[5], up = v[6];
    const int low = w < n ? w : n, high = w < n ? n : w;
    const int plain = w + n - nw, gradient = plain < low ? low : plain > high ? high : plain;
    const int most = (1 << plane_.bits) - 1;
    const auto bounded = [&](int x) { return uint32_t(x < 0 ? 0 : x > most ? most : x); };
    const int fine = plane_.bits > 8 ? plane_.bits - 8 : 0;
    const int activity = log2_of((absolute(w - nw) + absolute(n - nw) + absolute(n - ne)) >> fine);
    activity_[p] = uint8_t(activity);
    uint32_t* h = &hashes_[p * kContexts];
    h[0] = 0;
    h[1] = hash(1, w, n);
    h[2] = hash(hash(2, w, n), nw, ne);
    h[3] = hash(3, gradient, activity);
    h[4] = hash(4, uint32_t(bounded(n + (ne - nn) / 2)), uint32_t((w + ne) / 2));
    h[5] = other >= 0 ? hash(5, other, gradient) : plane_.axes == 3 ? hash(5, up, gradient) : hash(5, w, ww);
    h[6] = other >= 0 ? hash(hash(6, other, w), n, 0) : hash(6, bounded(2 * w - ww), bounded(2 * n - nn));
    flat_[p] = uint8_t((w == n) + 2 * (n == nw) + 4 * (w == nw || n == ne));
  }

  // To be called before every fourth decision: the counters of four decisions, a tree of 15, lie side by side.
  void enter(int64_t p, int level, uint32_t prefix) {
    for (int c = 0; c < kContexts; ++c) {
      const uint32_t key = hash(hashes_[p * kContexts + c], prefix, uint32_t(level));
      lines_[p * kContexts + c] = (int64_t(c) << log_) + int64_t(key >> (32 - log_ + 4) << 4);
    }
  }

  // The probability of a 1 in decision `level` after `prefix`, given the model's; learn() must follow.
  uint32_t probability(int64_t p, int level, uint32_t prefix, uint32_t model) {
    const int within = level & 3;
    const uint32_t node = (prefix & ((1u << within) - 1)) | 1u << within;
    inputs_[0] = tables_.odds(int(model));
    for (int c = 0; c < kContexts; ++c) {
      slot_[c] = &table_[lines_[p * kContexts + c] + node];
      const int n = slot_[c]->n;
      const int odds = tables_.odds(slot_[c]->p);
      inputs_[1 + c] = n == 0 ? 0 : n < 3 ? odds / 2 : odds;
    }
    inputs_[kInputs - 1] = 256;
    set_[0] = level * 8 + activity_[p];
    set_[1] = level * 16 + trust(slot_[2]->n) * 4 + trust(slot_[1]->n);
    set_[2] = level * 8 + flat_[p];
    int64_t sum = 0;
    for (int s = 0; s < kSets; ++s) {
      const int32_t* w = &weights_[s][set_[s] * kInputs];
      for (int i = 0; i < kInputs; ++i) sum += int64_t(w[i]) * inputs_[i];
    }
    int odds = int(sum >> 16);
    odds = odds < -kMostOdds ? -kMostOdds : odds > kMostOdds ? kMostOdds : odds;
    mixed_ = tables_.probability(odds);
    // refined by what came of such a probability where neighbours were alike, between two knots
    const int at = odds + kMostOdds, knot = at / kKnotStep, part = at % kKnotStep;
    uint16_t* knots = &refined_[((level * 8 + activity_[p]) * 8 + flat_[p]) * kKnots + knot];
    const int refined = knots[0] + (knots[1] - knots[0]) * part / kKnotStep;
    nearest_ = knots + (2 * part > kKnotStep);
    const int final = (mixed_ * 3 + refined) >> 2;
    return uint32_t(final < 1 ? 1 : final > 65535 ? 65535 : final);
  }

  void learn(bool bit) {
    const int error = (bit ? 65535 : 0) - mixed_;
    for (int s = 0; s < kSets; ++s) {
      int32_t* w = &weights_[s][set_[s] * kInputs];
      for (int i = 0; i < kInputs; ++i) {
        const int step = int((int64_t(inputs_[i]) * error + (1 << 17)) >> 18);
        const int32_t moved = w[i] + step;
        w[i] = moved < -kMostWeight ? -kMostWeight : moved > kMostWeight ? kMostWeight : moved;
      }
    }
    for (int c = 0; c < kContexts; ++c) {
      Counter& k = *slot_[c];
      k.p = uint16_t(k.p + ((bit ? 65535 : 0) - k.p) * 2 / (2 * k.n + 3));
      if (k.n < (c == 0 ? 250 : 60)) ++k.n;
    }
    *nearest_ = uint16_t(*nearest_ + ((bit ? 65535 : 0) - *nearest_) / 64);
  }

 private:
  static constexpr int kLevels = 16, kMostSets = kLevels * 16, kMostWeight = 1 << 20;
  static constexpr int kKnots = 33, kKnotStep = 178;  // that many reach from -kMostOdds beyond kMostOdds

  // Of the table of a context's counters: at least four a point, within bounds.
  static int log_size(int64_t points) {
    int log = 10;
    while (log < 20 && int64_t(1) << log < 4 * points) ++log;
    return log;
  }

  // How much a counter knows.
  static int trust(int n) { return n == 0 ? 0 : n < 3 ? 1 : n < 10 ? 2 : 3; }

  static int absolute(int x) { return x < 0 ? -x : x; }
  static int log2_of(int x) {
    int bits = 0;
    for (; x > 0 && bits < 7; x >>= 1) ++bits;
    return bits;
  }
  static uint32_t hash(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t h = a * 0x9E3779B1u + b * 0x85EBCA77u + c * 0xC2B2AE3Du + 0x27D4EB2Fu;
    h = (h ^ h >> 15) * 0x2C1B3C6Du;
    return h ^ h >> 13;
  }

  const CodecPlane& plane_;
  const OddsTables& tables_;
  int log_;
  Array<Counter> table_;
  Array<uint32_t> hashes_;
  Array<int64_t> lines_;
  Array<uint8_t> activity_, flat_;
  Array<int32_t> weights_[kSets];
  Array<uint16_t> refined_;
  Counter* slot_[kContexts];
  int inputs_[kInputs], set_[kSets], mixed_ = 0;
  uint16_t* nearest_ = nullptr;
};

}  // namespace ndrnn::NDRNN_ISA
