// The codec without torch and Python, to be run on other processors and under sanitizers: reads calls of encode from
// standard input as the test writes them, and writes the bytes. Each is decoded again, and so are damaged bytes, of
// which nothing is asked but to end.
#include <cstdio>
#include <cstring>
#include <vector>

#include "../../../csrc/codec/plane.h"

template <class T>
std::vector<T> read() {
  int64_t count = 0;
  if (std::fread(&count, sizeof count, 1, stdin) != 1) return {};
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, stdin) != size_t(count)) return {};
  return values;
}

int main() {
  const ndrnn::CodecKernels& codec = ndrnn::codec_portable::kernels();
  for (;;) {
    const std::vector<uint8_t> head = read<uint8_t>();
    if (head.empty()) return 0;
    ndrnn::CodecPlane plane;
    if (head.size() != sizeof plane) return 2;
    std::memcpy(&plane, head.data(), sizeof plane);
    const auto alphabet = read<uint16_t>();
    const auto offsets = read<int32_t>();
    const auto observed = read<uint16_t>();
    const auto before = read<uint16_t>();
    const auto weights = read<float>();
    const auto values = read<uint16_t>();
    plane.alphabet = alphabet.data();
    plane.offsets = offsets.data();
    plane.observed = observed.data();
    plane.before = before.empty() ? nullptr : before.data();
    plane.weights = weights.data();
    std::vector<uint8_t> bytes(4 * values.size() + 64);
    std::vector<uint16_t> back(values.size());
    int64_t used = 0;
    if (codec.encode(plane, values.data(), bytes.data(), bytes.size(), &used) != ndrnn::CodecOutcome::kDone) return 3;
    bytes.resize(used);  // so that a sanitizer sees its end
    bytes.shrink_to_fit();
    if (codec.decode(plane, back.data(), bytes.data(), used) != ndrnn::CodecOutcome::kDone || back != values) return 4;
    std::fwrite(&used, sizeof used, 1, stdout);
    std::fwrite(bytes.data(), 1, used, stdout);
    for (int64_t at = 0; at < used; at += used / 3 + 1) {
      bytes[at] ^= 0x55;
      if (codec.decode(plane, back.data(), bytes.data(), used - at) != ndrnn::CodecOutcome::kDone) return 5;
    }
    std::vector<uint8_t> small(used / 2);
    if (codec.encode(plane, values.data(), small.data(), small.size(), &used) != ndrnn::CodecOutcome::kNoRoom) return 6;
  }
}
