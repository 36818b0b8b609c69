// SPDX-License-Identifier: MIT
#include "lox/base/buffer.hpp"

#include <cstdint>
#include <new>
#include <sys/mman.h>
#include <utility>

namespace lox {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

}  // namespace

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes < huge_page) {
    data_ = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64}));
    return;
  }
  // One huge page more than needed, so that an aligned part can be cut out.
  void* const raw =
      ::mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  const auto start = reinterpret_cast<std::uintptr_t>(raw);
  const std::uintptr_t aligned = (start + huge_page - 1) / huge_page * huge_page;
  if (aligned > start) ::munmap(raw, aligned - start);
  const std::uintptr_t end = (aligned + bytes + 4095) / 4096 * 4096;
  const std::uintptr_t raw_end = (start + bytes + huge_page + 4095) / 4096 * 4096;
  if (raw_end > end) ::munmap(reinterpret_cast<void*>(end), raw_end - end);
  data_ = reinterpret_cast<std::byte*>(aligned);
  ::madvise(data_, bytes, MADV_HUGEPAGE);  // a wish: nothing is lost if it is not granted
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (size_ < huge_page) {
    ::operator delete (data_, std::align_val_t{64});
  } else {
    ::munmap(data_, size_);
  }
}

}  // namespace lox
