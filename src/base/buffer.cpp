// SPDX-License-Identifier: MIT
#include "lox/base/buffer.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <malloc.h>
#include <mutex>
#include <new>
#include <sys/mman.h>
#include <utility>
#include <vector>

namespace lox {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + huge_page - 1) / huge_page * huge_page;
}

std::byte* map(std::size_t bytes) {
  // One huge page more than needed, so that an aligned part can be cut out.
  void* const raw =
      ::mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  const auto start = reinterpret_cast<std::uintptr_t>(raw);
  const std::uintptr_t aligned = (start + huge_page - 1) / huge_page * huge_page;
  if (aligned > start) ::munmap(raw, aligned - start);
  const std::uintptr_t end = aligned + bytes;
  const std::uintptr_t raw_end = start + bytes + huge_page;
  if (raw_end > end) ::munmap(reinterpret_cast<void*>(end), raw_end - end);
  ::madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);  // a wish: nothing is lost without
  return reinterpret_cast<std::byte*>(aligned);
}

/// Blocks that were given back, for the next of their size or less: a fresh page costs the kernel more time
/// than all that lox does with it. Work goes from large weights to small ones, so what is cut off is of use
/// too. Never more than was in use at one time before.
class Pool {
 public:
  std::byte* take(std::size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      in_use_ += bytes;
      const auto best = best_fit(bytes);
      if (best != idle_.end()) {
        std::byte* const data = best->data;
        best->data += bytes;
        best->bytes -= bytes;
        if (best->bytes == 0) idle_.erase(best);
        idle_bytes_ -= bytes;
        return data;
      }
      most_ = std::max(most_, in_use_);
      while (in_use_ + idle_bytes_ > most_) {
        ::munmap(idle_.front().data, idle_.front().bytes);
        idle_bytes_ -= idle_.front().bytes;
        idle_.erase(idle_.begin());
      }
    }
    return map(bytes);
  }

  void give(std::byte* data, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    in_use_ -= bytes;
    idle_bytes_ += bytes;
    idle_.push_back({data, bytes});
  }

 private:
  struct Block {
    std::byte* data;
    std::size_t bytes;
  };
  std::vector<Block>::iterator best_fit(std::size_t bytes) {
    auto best = idle_.end();
    for (auto block = idle_.begin(); block != idle_.end(); ++block) {
      if (block->bytes >= bytes && (best == idle_.end() || block->bytes <= best->bytes)) best = block;
    }
    return best;
  }

  std::mutex mutex_;
  std::vector<Block> idle_;  // the one given back last at the end
  std::size_t idle_bytes_ = 0;
  std::size_t in_use_ = 0;
  std::size_t most_ = 0;  // that was in use at one time
};

Pool& pool() {
  static auto* const pool = new Pool;  // never destroyed: buffers may outlive it otherwise
  return *pool;
}

}  // namespace

Buffer::Buffer(std::size_t bytes, std::size_t shift) : size_(bytes), shift_(shift) {
  if (bytes == 0) return;
  const std::size_t all = bytes + shift;
  std::byte* const block = all < huge_page
                               ? static_cast<std::byte*>(::operator new (all, std::align_val_t{64}))
                               : pool().take(whole_pages(all));
  data_ = block + shift;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      shift_(std::exchange(other.shift_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(shift_, other.shift_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  std::byte* const block = data_ - shift_;
  const std::size_t all = size_ + shift_;
  if (all < huge_page) {
    ::operator delete (block, std::align_val_t{64});
  } else {
    pool().give(block, whole_pages(all));
  }
}

void keep_freed_memory() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // as high as it goes; setting it also stops it from moving
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  ::mallopt(M_TOP_PAD, 16 << 20);
#endif
}

}  // namespace lox
