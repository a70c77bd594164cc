// Arrays of the codec: aligned, zero at first, no template of the standard library.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace ndrnn::NDRNN_ISA {

struct NoMemory {};

template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(int64_t count) { make(count); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { std::free(data_); }

  void make(int64_t count) {
    constexpr int64_t kAlignment = 64;
    const int64_t bytes = (count * int64_t(sizeof(T)) / kAlignment + 1) * kAlignment;
    std::free(data_);
    data_ = static_cast<T*>(std::aligned_alloc(kAlignment, bytes));
    if (!data_) throw NoMemory();
    std::memset(data_, 0, bytes);
  }

  T* get() { return data_; }
  const T* get() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

}  // namespace ndrnn::NDRNN_ISA
