// SPDX-License-Identifier: MIT
#include "lox/base/file.hpp"

#include "lox/base/buffer.hpp"

#include <cstring>
#include <vector>

#include "support/scratch.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

std::byte value_at(std::uint64_t position) {
  return static_cast<std::byte>((position * 2654435761U) >> 13);
}

/// What lies at `offset` and ends up there, `shift` bytes beyond a page of memory.
std::span<const std::byte> stretch(Buffer& memory, std::uint64_t offset, std::size_t bytes,
                                   std::size_t shift) {
  memory = Buffer(bytes + shift);
  const std::span<std::byte> part = memory.bytes().subspan(shift);
  for (std::size_t i = 0; i < bytes; ++i) part[i] = value_at(offset + i);
  return part;
}

// Large writes go past the page cache in whole pages; what shares a page with a neighbour must not touch it.
TEST(File, NeighboursThatShareAPage) {
  const testing::Scratch scratch;
  constexpr std::size_t large = (std::size_t{9} << 20) + 123;  // more than one piece
  const std::vector<std::size_t> sizes = {1, 4095, large, 4096, 7, large + 4000, 1 << 20, 1 << 20, 11, large};
  std::uint64_t total = 0;
  for (const std::size_t size : sizes) total += size;
  {
    File file = File::create(scratch / "file");
    file.reserve(total);
    std::uint64_t offset = total;
    for (std::size_t i = sizes.size(); i-- > 0;) {  // from the end, so that later writes meet earlier ones
      offset -= sizes[i];
      Buffer memory;
      file.write(offset, stretch(memory, offset, sizes[i], i % 2 == 0 ? 0 : 24));
    }
    file.sync();
    EXPECT_EQ(file.size(), total);
  }
  const File file = File::open_read(scratch / "file");
  std::vector<std::byte> found(total);
  file.read(0, found);
  for (std::uint64_t i = 0; i < total; ++i) ASSERT_EQ(found[i], value_at(i)) << "at byte " << i;
}

// Memory that lies as far from a page as the place in the file.
TEST(File, WrittenFromWhereItIs) {
  const testing::Scratch scratch;
  constexpr std::uint64_t offset = 5 * 4096 + 40;
  constexpr std::size_t bytes = (std::size_t{17} << 20) + 3;
  File file = File::create(scratch / "file");
  Buffer memory(bytes, File::page_shift(offset));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 4096, 40);
  for (std::size_t i = 0; i < bytes; ++i) memory.data()[i] = value_at(offset + i);
  file.write(offset, memory.bytes());
  std::vector<std::byte> found(bytes);
  file.read(offset, found);
  EXPECT_EQ(std::memcmp(found.data(), memory.data(), bytes), 0);
}

}  // namespace
}  // namespace lox
