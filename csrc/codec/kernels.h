// The table of one instruction set's codec. Each set's source file defines NDRNN_ISA and includes this.
#pragma once
#include "block.h"

namespace ndrnn::NDRNN_ISA {

// Rounds to nearest and keeps small numbers while it lives, whatever the thread was set to.
class OrdinaryArithmetic {
 public:
  OrdinaryArithmetic() : before_(get()) { set(kOrdinary); }
  ~OrdinaryArithmetic() { set(before_); }

 private:
#if defined(__SSE2__)
  static constexpr uint64_t kOrdinary = 0x1f80;
  static uint64_t get() { return __builtin_ia32_stmxcsr(); }
  static void set(uint64_t word) { __builtin_ia32_ldmxcsr(unsigned(word)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kOrdinary = 0;
  static uint64_t get() {
    uint64_t word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void set(uint64_t word) { __asm__ volatile("msr fpcr, %0" : : "r"(word)); }
#else
  static constexpr uint64_t kOrdinary = 0;
  static uint64_t get() { return 0; }
  static void set(uint64_t) {}
#endif
  uint64_t before_;
};

template <class Coder>
CodecOutcome run(const CodecPlane& plane, uint16_t* values, Coder& coder) try {
  Block<Coder> block(plane, values, coder);
  if (!block.valid()) return CodecOutcome::kWrongCall;
  block.run();
  return CodecOutcome::kDone;
} catch (const NoMemory&) {
  return CodecOutcome::kNoMemory;
}

CodecOutcome encode(const CodecPlane& plane, const uint16_t* values, uint8_t* bytes, int64_t room, int64_t* used) {
  const OrdinaryArithmetic ordinary;
  Encoder coder(bytes, room);
  const CodecOutcome outcome = run(plane, const_cast<uint16_t*>(values), coder);  // an encoder writes no values
  if (outcome != CodecOutcome::kDone) return outcome;
  return coder.finish(used) ? CodecOutcome::kDone : CodecOutcome::kNoRoom;
}

CodecOutcome decode(const CodecPlane& plane, uint16_t* values, const uint8_t* bytes, int64_t count) {
  const OrdinaryArithmetic ordinary;
  Decoder coder(bytes, count);
  return run(plane, values, coder);
}

// exp, logistic, tanh, normal tail of |x|, and x * x + 1/3 in one rounding: (count, 5), for tests.
void functions(const float* x, int64_t count, float* results) {
  const OrdinaryArithmetic ordinary;
  for (int64_t i = 0; i < count; ++i) {
    const F v = all(x[i]);
    const F all_of[] = {exponential(v), logistic(v), tangent(v), normal_tail(v < F{} ? -v : v), fma(v, v, all(0.333333343f))};
    for (int j = 0; j < 5; ++j) results[5 * i + j] = all_of[j][0];
  }
}

const CodecKernels& kernels() {
  static constexpr CodecKernels table{encode, decode, functions};
  return table;
}

}  // namespace ndrnn::NDRNN_ISA
