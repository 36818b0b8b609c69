// SPDX-License-Identifier: MIT
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace lox {

/// XXH3 of bytes, 64 bits.
std::uint64_t checksum(std::span<const std::byte> bytes);

/// A fingerprint of a matrix: the sum of the hashes of its rows (of long ones: of their segments), each with
/// its number, so that it does not matter in which pieces, in which order or by which ranks they are seen.
struct Content {
  static constexpr std::size_t segment = 1 << 16;  ///< elements
  std::array<std::uint64_t, 2> sums{};

  /// Adds elements of `width` bytes in rows of `cols`, numbered from `first` (XXH3, 128 bits). They begin and
  /// end with a row, or with a segment of one.
  void add(std::span<const std::byte> bytes, std::size_t width, std::size_t cols, std::uint64_t first);
  void add(const Content& other);
  bool operator==(const Content&) const = default;
};

}  // namespace lox
