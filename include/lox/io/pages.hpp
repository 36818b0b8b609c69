// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/storage.hpp"

namespace lox {

/// Where the page caches of two nodes do not know of one another (NFS), a page that both write to loses the
/// bytes of one. So a process writes only pages that lie in its own extent as a whole. Bytes of an extent
/// that share a page with something else are its edges: one process puts all edges of an output in place,
/// when the others are done.
///
///     pages       |        |        |        |        |
///     extent            [======================]
///                       edge |  own pages   |edge
struct OwnPages {
  std::uint64_t first = 0;  ///< within the extent; first == last: all of it is edge
  std::uint64_t last = 0;
};
OwnPages own_pages(const Extent& extent);

/// Writes bytes of an extent from position `first` on as far as they lie in its own pages, and hands the
/// others to `edge`.
void write_own_pages(Storage& storage, const Extent& extent, std::uint64_t first,
                     std::span<const std::byte> bytes, const TakeBytes& edge);

/// Writes an edge, unless these bytes are there already. Only for the one process that puts them in place.
void put_edge(Storage& storage, const Extent& extent, std::uint64_t first, std::span<const std::byte> bytes);

}  // namespace lox
