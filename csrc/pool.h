// Memory that was used once and is kept for the next call.
//
// A training step writes hundreds of megabytes that the step after it wants again. Handed back to the system in
// between, every page of them is asked for, mapped and cleared anew, which takes longer than the arithmetic that fills
// it. Blocks that have been given back therefore wait here, within two limits: together with the blocks in use they are
// never more than what was in use at once before, and a block that many calls had no use for is released.
#pragma once
#include <pthread.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace ndrnn {

class Pool {
 public:
  // Below this the allocator of the system keeps memory by itself.
  static constexpr int64_t kLeast = 1 << 20;

  // The one pool. It is never destroyed: tensors may outlive everything else.
  static Pool& instance() {
    static Pool* const pool = new Pool;
    return *pool;
  }

  // Memory for at least so many bytes, aligned for vectors; null where there is none.
  void* take(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t size = rounded(bytes);
    ++calls_;
    void* memory = reuse(size);
    if (!memory) {
      most_ = most_ > used_ + size ? most_ : used_ + size;
      release([&](const Block&) { return used_ + waiting_bytes_ + size > most_; });
      memory = std::aligned_alloc(kHuge, size);
      if (!memory) {
        release([](const Block&) { return true; });
        memory = std::aligned_alloc(kHuge, size);
      }
      if (!memory) return nullptr;
      prefer_huge_pages(memory, size);
      sizes_[memory] = size;
      used_ += size;
    }
    release([&](const Block& block) { return calls_ - block.since > kPatience; });
    return memory;
  }

  void give(void* memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t size = sizes_[memory];
    used_ -= size;
    waiting_.push_back({memory, size, calls_});
    waiting_bytes_ += size;
  }

  // Hands everything that waits back to the system; returns how many bytes.
  int64_t clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t bytes = waiting_bytes_;
    release([](const Block&) { return true; });
    most_ = used_;
    return bytes;
  }

 private:
  struct Block {
    void* memory;
    int64_t size, since;  // the call after which it was given back
  };

  static constexpr int64_t kHuge = 2 << 20, kPatience = 256;

  Pool() {
    // a child process must not find the lock taken by a thread that it does not have
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); }, [] { instance().mutex_.unlock(); });
  }

  // Few different sizes, so that lattices of nearly the same extent find each other's blocks.
  static int64_t rounded(int64_t bytes) {
    int64_t step = kHuge;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step;
  }

  // The smallest block that waits and fits without waste, the last one given back of several: it may be in cache.
  void* reuse(int64_t size) {
    auto best = waiting_.end();
    for (auto block = waiting_.begin(); block != waiting_.end(); ++block)
      if (block->size >= size && block->size <= size + size / 4 && (best == waiting_.end() || block->size <= best->size))
        best = block;
    if (best == waiting_.end()) return nullptr;
    void* const memory = best->memory;
    used_ += best->size;
    waiting_bytes_ -= best->size;
    waiting_.erase(best);
    return memory;
  }

  // Frees the blocks, from the one that waits longest, for which `condition` holds when its turn comes.
  template <class Condition>
  void release(Condition&& condition) {
    for (auto block = waiting_.begin(); block != waiting_.end() && condition(*block); block = waiting_.erase(block)) {
      waiting_bytes_ -= block->size;
      sizes_.erase(block->memory);
      std::free(block->memory);
    }
  }

  // In small pages fresh memory costs several times more.
  static void prefer_huge_pages(void* memory, int64_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(memory, size, MADV_HUGEPAGE);
#else
    (void)memory, (void)size;
#endif
  }

  std::mutex mutex_;
  std::unordered_map<void*, int64_t> sizes_;
  std::vector<Block> waiting_;  // in the order in which they were given back
  int64_t used_ = 0, waiting_bytes_ = 0, most_ = 0, calls_ = 0;
};

}  // namespace ndrnn
