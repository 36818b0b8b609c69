// SPDX-License-Identifier: MIT
#include "lox/base/checksum.hpp"

#include "lox/base/random.hpp"

#include <vector>

#include <gtest/gtest.h>
#include <xxhash.h>

namespace lox {
namespace {

std::vector<std::byte> some_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(mix64(i));
  return bytes;
}

TEST(Checksum, IsThatOfTheLibrary) {
  for (const std::size_t size : {0, 1, 17, 129, 241, 1000, 4096, 100'001}) {
    const auto bytes = some_bytes(size);
    EXPECT_EQ(checksum(bytes), XXH3_64bits(bytes.data(), bytes.size())) << size;
  }
}

/// Any pieces of whole rows, or of whole segments of long ones, in any order.
TEST(Content, DoesNotDependOnThePieces) {
  constexpr std::size_t width = 2;
  for (const std::size_t cols : {std::size_t{1}, std::size_t{100}, 3 * Content::segment + 5}) {
    const std::size_t rows = 7;
    const auto bytes = some_bytes(rows * cols * width);
    const auto part = [&](std::size_t first, std::size_t count) {
      return std::span(bytes).subspan(first * width, count * width);
    };
    Content whole;
    whole.add(bytes, width, cols, 0);
    Content pieces;
    pieces.add(part(4 * cols, 3 * cols), width, cols, 4 * cols);
    Content others;
    if (cols > Content::segment) {
      others.add(part(3 * cols, Content::segment), width, cols, 3 * cols);
      others.add(part(3 * cols + Content::segment, cols - Content::segment), width, cols,
                 3 * cols + Content::segment);
    } else {
      others.add(part(3 * cols, cols), width, cols, 3 * cols);
    }
    pieces.add(others);
    pieces.add(part(0, 3 * cols), width, cols, 0);
    EXPECT_EQ(whole, pieces);
  }
}

TEST(Content, TellsWhatIsDifferent) {
  const auto bytes = some_bytes(400);
  Content content;
  content.add(bytes, 2, 20, 0);
  auto swapped = bytes;  // two rows
  std::swap_ranges(swapped.begin(), swapped.begin() + 40, swapped.begin() + 40);
  auto flipped = bytes;
  flipped[399] ^= std::byte{1};
  for (const auto& other : {swapped, flipped}) {
    Content found;
    found.add(other, 2, 20, 0);
    EXPECT_NE(found, content);
  }
  Content reshaped;
  reshaped.add(bytes, 2, 10, 0);
  EXPECT_NE(reshaped, content);
}

}  // namespace
}  // namespace lox
