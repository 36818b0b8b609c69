// SPDX-License-Identifier: MIT
#include "lox/io/pages.hpp"

#include <map>
#include <string>

#include "io/models.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

TEST(Pages, OwnOnesLieWhollyInside) {
  const std::uint64_t page = File::page();
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, page - 1, page, 3 * page + 17}) {
    for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{1}, page - 1, page, page + 1,
                                      2 * page - 1, 2 * page, 5 * page + 3}) {
      const OwnPages own = own_pages({0, offset, bytes});
      std::uint64_t expected = 0;  // whole pages inside, counted one by one
      for (std::uint64_t p = 0; p < 20; ++p)
        expected += p * page >= offset && (p + 1) * page <= offset + bytes;
      EXPECT_EQ(own.last - own.first, expected * page) << offset << " " << bytes;
      EXPECT_LE(own.last, bytes);
      EXPECT_TRUE(expected == 0 || (offset + own.first) % page == 0);
    }
  }
}

/// Edges and own pages together are all bytes, whatever the pieces; a neighbour's page is never written.
TEST(Pages, EveryByteGoesOneOfTheTwoWays) {
  const testing::Scratch scratch;
  const std::uint64_t page = File::page();
  const Extent extent{0, page + 100, 3 * page};
  for (const std::uint64_t piece : {std::uint64_t{50}, page, page + 1, 3 * page}) {
    const fs::path file = scratch / "x";
    testing::put(file, std::string(6 * page, '-'));
    Checkpoint table;
    table.path = file;
    table.files = {file};
    FileStorage storage(table, FileStorage::Access::write);
    const std::string content = testing::pattern(extent.bytes, 1);
    std::map<std::uint64_t, std::string> edges;
    for (std::uint64_t first = 0; first < extent.bytes; first += piece) {
      const std::string part = content.substr(first, piece);
      write_own_pages(storage, extent, first, std::as_bytes(std::span(part)),
                      [&](std::uint64_t at, std::span<const std::byte> bytes) {
                        edges[at] = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                      });
    }
    const std::string before = testing::get(file);
    EXPECT_EQ(before.substr(0, 2 * page), std::string(2 * page, '-')) << "the page of the first edge";
    EXPECT_EQ(before.substr(4 * page), std::string(2 * page, '-')) << "the page of the last edge";
    for (const auto& [first, bytes] : edges)
      put_edge(storage, extent, first, std::as_bytes(std::span(bytes)));
    const std::string after = testing::get(file);
    EXPECT_EQ(after.substr(extent.offset, extent.bytes), content);
    EXPECT_EQ(after.substr(0, extent.offset), std::string(extent.offset, '-'));
    EXPECT_EQ(after.substr(extent.offset + extent.bytes), std::string(2 * page - 100, '-'));
  }
}

}  // namespace
}  // namespace lox
