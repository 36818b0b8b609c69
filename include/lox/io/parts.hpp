// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/storage.hpp"

#include <cstdint>
#include <functional>
#include <span>

namespace lox {

/// Dimensions that a tensor in parts may have.
inline constexpr std::size_t most_dimensions_in_parts = 16;

/// Bytes [first, first + to.size()) of a tensor in parts, cut along whichever dimensions. Parts cut along the
/// first dimension alone are read where they are wanted; of others 256 KiB at once, which is what it holds.
void read_parts(Storage& storage, const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to);

/// Calls work(extent, at, count) for the bytes of each part that are among bytes [first, first + bytes) of
/// the tensor: they follow one another in the file.
void for_parts(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes,
               const std::function<void(const Extent& extent, std::uint64_t at, std::uint64_t count)>& work);

/// Bytes of memory that the places of all parts of a model take at most, also while its table travels between
/// ranks.
std::uint64_t bytes_of_places(const Checkpoint& model);

}  // namespace lox
