// SPDX-License-Identifier: MIT
#include "lox/io/pages.hpp"

#include "lox/base/buffer.hpp"

#include <algorithm>
#include <cstring>

namespace lox {

OwnPages own_pages(const Extent& extent) {
  const std::uint64_t page = File::page();
  const std::uint64_t first = (page - extent.offset % page) % page;
  const std::uint64_t behind = (extent.offset + extent.bytes) % page;
  if (first + behind >= extent.bytes) return {};
  return {first, extent.bytes - behind};
}

void write_own_pages(Storage& storage, const Extent& extent, std::uint64_t first,
                     std::span<const std::byte> bytes, const TakeBytes& edge) {
  const OwnPages own = own_pages(extent);
  const std::uint64_t last = first + bytes.size();
  const auto part = [&](std::uint64_t from, std::uint64_t to) {
    return bytes.subspan(from - first, to - from);
  };
  const std::uint64_t begin = std::clamp(own.first, first, last);
  const std::uint64_t end = std::clamp(own.last, begin, last);
  if (begin > first) edge(first, part(first, begin));
  if (end > begin) storage.write(extent, begin, part(begin, end));
  if (last > end) edge(end, part(end, last));
}

void put_edge(Storage& storage, const Extent& extent, std::uint64_t first, std::span<const std::byte> bytes) {
  Buffer there(bytes.size());
  storage.read(extent, first, there.bytes());
  if (std::memcmp(there.data(), bytes.data(), bytes.size()) != 0) storage.write(extent, first, bytes);
}

}  // namespace lox
