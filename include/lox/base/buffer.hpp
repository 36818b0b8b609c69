// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>
#include <span>

namespace lox {

/// A large block of memory, `shift` bytes behind the begin of a huge page and asked to be made of them; not
/// initialised. A block that is given back serves the next of its size or less, yet the process never holds
/// more of them than were in use at one time.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes, std::size_t shift = 0);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() { return {data_, size_}; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::span<float> floats() { return {reinterpret_cast<float*>(data_), size_ / sizeof(float)}; }
  std::span<const float> floats() const {
    return {reinterpret_cast<const float*>(data_), size_ / sizeof(float)};
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t shift_ = 0;
};

/// The same for what malloc gives (panels of tens of megabytes): freed memory waits for the next tensor
/// instead of going back to the system. To be called once, at the start.
void keep_freed_memory();

}  // namespace lox
