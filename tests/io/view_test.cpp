// SPDX-License-Identifier: MIT
#include "lox/io/view.hpp"

#include "lox/io/parts.hpp"

#include <numeric>

#include "support/expect_error.hpp"
#include "support/memory_storage.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// A tensor [3, 5, 7] whose entry number i is i, behind 16 other bytes.
class ViewTest : public ::testing::Test {
 protected:
  static constexpr std::int64_t batch = 3;
  static constexpr std::int64_t rows = 5;
  static constexpr std::int64_t cols = 7;
  static constexpr std::size_t entries = batch * rows * cols;

  void put(DType dtype) {
    const std::size_t width = element_bytes(dtype);
    source_ = {"w", dtype, {batch, rows, cols}, {0, 16, entries * width}, ""};
    std::vector<std::byte>& file = storage_.files[0];
    file.assign(16 + entries * width, std::byte{});
    for (std::size_t i = 0; i < entries; ++i) file[16 + i * width] = static_cast<std::byte>(i);
  }
  /// Entries [first, first + count) of a view.
  std::vector<std::size_t> read(std::uint64_t offset, bool transposed, std::size_t first, std::size_t count) {
    const std::size_t width = element_bytes(source_.dtype);
    TensorInfo view{"v", source_.dtype, {batch, cols, rows}, source_.extent, ""};
    view.view = std::make_shared<View>(View{source_, offset, transposed});
    std::vector<std::byte> bytes(count * width);
    read_view(storage_, view, first * width, bytes);
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < count; ++i) found.push_back(std::to_integer<std::size_t>(bytes[i * width]));
    return found;
  }
  /// Number of the source's entry that entry `at` of the transposed tensor is.
  static std::size_t transposed(std::size_t at) {
    const std::size_t matrix = at / (rows * cols);
    const std::size_t col = at % (rows * cols) / rows;
    return matrix * rows * cols + at % rows * cols + col;
  }

  testing::MemoryStorage storage_;
  TensorInfo source_;
};

TEST_F(ViewTest, BeginsFurtherOn) {
  put(DType::BF16);
  std::vector<std::size_t> expected(20);
  std::iota(expected.begin(), expected.end(), 42);
  EXPECT_EQ(read(35, false, 7, 20), expected);
}

TEST_F(ViewTest, TransposedFromAnyEntryToAnyOther) {
  for (const DType dtype : {DType::I8, DType::BF16, DType::F32, DType::F64}) {
    put(dtype);
    for (std::size_t first = 0; first < entries; ++first) {
      for (std::size_t count = 0; first + count <= entries; ++count) {
        const std::vector<std::size_t> found = read(0, true, first, count);
        for (std::size_t i = 0; i < count; ++i)
          ASSERT_EQ(found[i], transposed(first + i)) << first << " + " << i << " of " << count;
      }
    }
  }
}

TEST_F(ViewTest, ATransposedOneBeginsFurtherOn) {
  put(DType::F32);
  const std::vector<std::size_t> found = read(35, true, 3, 40);
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], transposed(38 + i));
}

TEST_F(ViewTest, OnlyWholeEntries) {
  put(DType::F32);
  TensorInfo view = source_;
  view.view = std::make_shared<View>(View{source_, 0, true});
  std::vector<std::byte> bytes(4);
  testing::expect_error(ExitCode::internal, [&] { read_view(storage_, view, 2, bytes); }, {"'w'"});
}

/// Parts take the same room whether a tensor is they or a view of them.
TEST_F(ViewTest, PlacesOfItsSourceAreCounted) {
  put(DType::BF16);
  Parts parts{3, {source_.extent}, {0, 0, 0, batch, rows, cols}};
  source_.parts = std::make_shared<const Parts>(std::move(parts));
  Checkpoint model;
  model.tensors = {source_};
  const std::uint64_t bytes = bytes_of_places(model);
  EXPECT_GT(bytes, 0U);
  model.tensors[0].parts.reset();
  model.tensors[0].view = std::make_shared<View>(View{source_, 0, true});
  EXPECT_EQ(bytes_of_places(model), bytes);
}

TEST_F(ViewTest, IsHandedToOtherRanksWhole) {
  put(DType::BF16);
  Checkpoint model;
  model.tensors = {source_};
  model.tensors[0].view = std::make_shared<View>(View{source_, 35, true});
  const Checkpoint again = Checkpoint::from_text(model.to_text());
  ASSERT_TRUE(again.tensors[0].view);
  EXPECT_EQ(again.tensors[0].view->source.shape, source_.shape);
  EXPECT_EQ(again.tensors[0].view->source.extent.offset, 16U);
  EXPECT_EQ(again.tensors[0].view->first, 35U);
  EXPECT_TRUE(again.tensors[0].view->transposed);
  EXPECT_FALSE(again.tensors[0].parts);
}

}  // namespace
}  // namespace lox
