// SPDX-License-Identifier: MIT
#include "lox/base/buffer.hpp"

#include <cstring>
#include <fstream>
#include <optional>
#include <unistd.h>

#include <gtest/gtest.h>

namespace lox {
namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

Buffer touched(std::size_t bytes) {
  Buffer buffer(bytes);
  std::memset(buffer.data(), 1, bytes);
  return buffer;
}

std::size_t resident() {
  std::size_t all = 0;
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> all >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST(Buffer, AlignedAndOfItsSize) {
  for (const std::size_t bytes : {std::size_t{1}, 3 * mib + 5, 2 * mib}) {
    const Buffer buffer = touched(bytes);
    EXPECT_EQ(buffer.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0U);
  }
  EXPECT_EQ(Buffer().data(), nullptr);
}

TEST(Buffer, BlockServesTheNextOfItsSize) {
  std::optional<Buffer> first(touched(64 * mib));
  const std::byte* const at = first->data();
  first.reset();
  const Buffer next(64 * mib - 100);
  EXPECT_EQ(next.data(), at);
  const Buffer other(64 * mib);
  EXPECT_NE(other.data(), at);
}

TEST(Buffer, IdleBlocksDoNotRaiseThePeak) {
  const std::size_t before = resident();
  { const Buffer all = touched(256 * mib); }
  for (const std::size_t size : {100, 120, 140, 160, 180}) {
    const Buffer one = touched(size * mib);
  }
  EXPECT_LT(resident(), before + 260 * mib);
  const Buffer more = touched(300 * mib);
  EXPECT_LT(resident(), before + 310 * mib);
}

}  // namespace
}  // namespace lox
