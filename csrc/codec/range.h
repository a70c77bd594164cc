// A binary arithmetic coder without carries: the interval [low, high] of 64 bits is cut in proportion to the
// probability of a 1 in units of 2^-16; leading bytes that both ends share are passed on.
#pragma once
#include <cstdint>

namespace ndrnn::NDRNN_ISA {

class Interval {
 protected:
  // The last value that means a 1.
  uint64_t middle(uint32_t probability) const {
    const uint64_t width = high_ - low_;
    return low_ + (width >> 16) * probability + ((width & 0xffff) * probability >> 16);
  }
  void take(bool bit, uint64_t middle) {
    if (bit) high_ = middle;
    else low_ = middle + 1;
  }
  bool settled() const { return (low_ ^ high_) >> 56 == 0; }
  void shift() {
    low_ <<= 8;
    high_ = high_ << 8 | 0xff;
  }
  uint64_t low_ = 0, high_ = ~uint64_t(0);
};

class Encoder : Interval {
 public:
  static constexpr bool kWrites = true;
  Encoder(uint8_t* bytes, int64_t room) : bytes_(bytes), room_(room) {}

  bool code(bool bit, uint32_t probability) {
    take(bit, middle(probability));
    for (; settled(); shift()) put(uint8_t(high_ >> 56));
    return bit;
  }

  // As few bytes as name a number in the interval, where zeros follow for ever. False if there was no room.
  bool finish(int64_t* used) {
    for (int cut = 56; low_ != 0; cut -= 8) {
      const uint64_t number = cut ? high_ >> cut << cut : high_;
      if (number < low_) continue;
      for (int at = 56; at >= cut; at -= 8) put(uint8_t(number >> at));
      break;
    }
    *used = count_;
    return count_ <= room_;
  }

 private:
  void put(uint8_t byte) {
    if (count_ < room_) bytes_[count_] = byte;
    ++count_;
  }
  uint8_t* bytes_;
  int64_t room_, count_ = 0;
};

class Decoder : Interval {
 public:
  static constexpr bool kWrites = false;
  Decoder(const uint8_t* bytes, int64_t count) : bytes_(bytes), end_(bytes + count) {
    for (int i = 0; i < 8; ++i) value_ = value_ << 8 | next();
  }

  bool code(bool, uint32_t probability) {
    const uint64_t at = middle(probability);
    const bool bit = value_ <= at;
    take(bit, at);
    for (; settled(); shift()) value_ = value_ << 8 | next();
    return bit;
  }

 private:
  uint8_t next() { return bytes_ < end_ ? *bytes_++ : 0; }
  const uint8_t *bytes_, *end_;
  uint64_t value_ = 0;
};

}  // namespace ndrnn::NDRNN_ISA
