// What other languages call: plain C, no torch. docs/codec.md says what the arrays hold.
#include <cstring>

#include "plane.h"

#define NDRNN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// The codec for an instruction set, or null where this processor does not have it.
const ndrnn::CodecKernels* find(const char* isa) {
#ifdef NDRNN_X86
  if (!std::strcmp(isa, "avx512")) return __builtin_cpu_supports("x86-64-v4") ? &ndrnn::codec_avx512::kernels() : nullptr;
  if (!std::strcmp(isa, "avx2")) return __builtin_cpu_supports("x86-64-v3") ? &ndrnn::codec_avx2::kernels() : nullptr;
#endif
  return std::strcmp(isa, "portable") ? nullptr : &ndrnn::codec_portable::kernels();
}

}  // namespace

NDRNN_EXPORT int32_t ndrnn_codec_supports(const char* isa) { return find(isa) != nullptr; }

// How long the description of a plane is, so that a caller can tell whether both mean the same.
NDRNN_EXPORT int64_t ndrnn_codec_plane_bytes() { return sizeof(ndrnn::CodecPlane); }

NDRNN_EXPORT int32_t ndrnn_codec_encode(const char* isa, const ndrnn::CodecPlane* plane, const uint16_t* values,
                                        uint8_t* bytes, int64_t room, int64_t* used) {
  const ndrnn::CodecKernels* kernels = find(isa);
  return int32_t(kernels ? kernels->encode(*plane, values, bytes, room, used) : ndrnn::CodecOutcome::kWrongCall);
}

NDRNN_EXPORT int32_t ndrnn_codec_decode(const char* isa, const ndrnn::CodecPlane* plane, uint16_t* values,
                                        const uint8_t* bytes, int64_t count) {
  const ndrnn::CodecKernels* kernels = find(isa);
  return int32_t(kernels ? kernels->decode(*plane, values, bytes, count) : ndrnn::CodecOutcome::kWrongCall);
}

NDRNN_EXPORT void ndrnn_codec_functions(const char* isa, const float* x, int64_t count, float* results) {
  if (const ndrnn::CodecKernels* kernels = find(isa)) kernels->functions(x, count, results);
}
