// SPDX-License-Identifier: MIT
#include "lox/io/parts.hpp"

#include "lox/io/identity.hpp"

#include <algorithm>
#include <random>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::get;
using testing::pattern;
using testing::put;
using testing::Scratch;

/// Pieces of a dimension, some perhaps empty, which are left out.
std::vector<std::pair<std::int64_t, std::int64_t>> cut(std::mt19937& random, std::int64_t size) {
  std::vector<std::int64_t> edges{0, size};
  for (auto n = random() % 4; n > 0; --n)
    edges.push_back(static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(size + 1)));
  std::ranges::sort(edges);
  std::vector<std::pair<std::int64_t, std::int64_t>> pieces;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    if (edges[i] < edges[i + 1]) pieces.emplace_back(edges[i], edges[i + 1]);
  }
  return pieces;
}

/// A tensor in one file per part, cut at random along all dimensions, and the bytes of the whole.
struct InParts {
  Checkpoint model;
  std::string bytes;

  InParts(const Scratch& scratch, std::mt19937& random, DType dtype, std::vector<std::int64_t> shape) {
    TensorInfo tensor{"w", dtype, std::move(shape), {}, ""};
    const std::size_t width = element_bytes(dtype);
    tensor.extent.bytes = static_cast<std::uint64_t>(tensor.elements()) * width;
    bytes = pattern(tensor.extent.bytes, 1);
    Parts parts{tensor.shape.size(), {}, {}};
    std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>> boxes{{}};
    for (const std::int64_t size : tensor.shape) {
      std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>> finer;
      const auto pieces = cut(random, size);
      for (const auto& box : boxes) {
        for (const auto& piece : pieces) {
          finer.push_back(box);
          finer.back().push_back(piece);
        }
      }
      boxes = std::move(finer);
    }
    for (const auto& box : boxes) {
      std::string held = "before";  // the part does not begin the file
      const std::uint64_t first = held.size();
      for (std::size_t i = 0; i < bytes.size() / width;
           ++i) {  // entry by entry: slow, and nothing to get wrong
        std::size_t rest = i;
        bool inside = true;
        for (std::size_t d = tensor.shape.size(); d-- > 0;) {
          const auto index = static_cast<std::int64_t>(rest) % tensor.shape[d];
          rest /= static_cast<std::size_t>(tensor.shape[d]);
          inside = inside && index >= box[d].first && index < box[d].second;
        }
        if (inside) held += bytes.substr(i * width, width);
      }
      const fs::path file = scratch / fmt::format("{}", model.files.size());
      parts.extents.push_back({static_cast<int>(model.files.size()), first, held.size() - first});
      for (const auto& [begin, end] : box) parts.boxes.push_back(begin);
      for (const auto& [begin, end] : box) parts.boxes.push_back(end - begin);
      put(file, held + "after");
      model.files.push_back(file);
    }
    tensor.parts = std::make_shared<const Parts>(std::move(parts));
    model.tensors.push_back(std::move(tensor));
  }
};

TEST(Parts, AnyRangeOfAnyCuts) {
  std::mt19937 random(7);
  const std::vector<std::vector<std::int64_t>> shapes{{23},    {7, 9},    {1, 31},
                                                      {31, 1}, {3, 4, 5}, {2, 3, 1, 4}};
  for (int round = 0; round < 60; ++round) {
    const Scratch scratch;
    const InParts made(scratch, random, round % 2 == 0 ? DType::BF16 : DType::F64,
                       shapes[static_cast<std::size_t>(round) % shapes.size()]);
    const TensorInfo& tensor = made.model.tensors[0];
    FileStorage storage(made.model, FileStorage::Access::read);
    for (int i = 0; i < 40; ++i) {
      const std::uint64_t first = random() % (made.bytes.size() + 1);
      const std::uint64_t count = random() % (made.bytes.size() - first + 1);
      std::string found(count, '\0');
      storage.read(tensor, first, std::as_writable_bytes(std::span(found)));
      ASSERT_EQ(found, made.bytes.substr(first, count)) << "round " << round << ", " << first << " " << count;
      storage.will_read(tensor, first, count);
      std::uint64_t told = 0;
      for_parts(tensor, first, count, [&](const Extent& extent, std::uint64_t at, std::uint64_t bytes) {
        ASSERT_LE(at + bytes, extent.bytes);
        told += bytes;
      });
      ASSERT_EQ(told, count);
    }
  }
}

TEST(Parts, ManyRunsOfMoreThanIsReadAtOnce) {
  std::mt19937 random(9);
  const Scratch scratch;
  const InParts made(scratch, random, DType::U8, {3, 700, 400});
  EXPECT_EQ(testing::bytes_of(made.model, "w"), made.bytes);
}

TEST(Parts, TravelBetweenRanksAndMakeAModelThisOne) {
  std::mt19937 random(5);
  const Scratch scratch;
  InParts made(scratch, random, DType::F32, {9, 8});
  const Checkpoint again = Checkpoint::from_text(made.model.to_text());
  EXPECT_EQ(testing::bytes_of(again, "w"), made.bytes);
  EXPECT_EQ(table_checksum(again), table_checksum(made.model));
  Parts moved = *again.tensors[0].parts;
  std::swap(moved.extents.front().offset, moved.extents.front().bytes);
  made.model.tensors[0].parts = std::make_shared<const Parts>(moved);
  EXPECT_NE(table_checksum(again), table_checksum(made.model));
}

}  // namespace
}  // namespace lox
