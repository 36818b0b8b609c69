// SPDX-License-Identifier: MIT
#include "lox/run/target.hpp"

#include "lox/base/checksum.hpp"

#include "support/expect_error.hpp"
#include "support/memory_storage.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// An output of one F32 tensor [2, 48, 64] that begins in the middle of a page.
class TargetTest : public ::testing::Test {
 protected:
  static constexpr Index rows = 48;
  static constexpr Index cols = 64;
  static constexpr std::uint64_t matrix_bytes = rows * cols * sizeof(float);
  static constexpr std::uint64_t offset = 40;

  TargetTest() {
    TensorInfo tensor{"w", DType::F32, {2, rows, cols}, {0, offset, 2 * matrix_bytes}, ""};
    table_.tensors = {tensor};
    table_.files = {"out"};
    item_.matrix = {{0, 0}, 1, rows, cols};
    item_.action = Action::edit;
    item_.dtype = DType::F32;
  }

  /// Sum of the first k of three triplets: entry (i, i) of the product is sigma_i.
  Solved three() const {
    Solved solved;
    solved.largest = 3;
    solved.spectrum.method = Method::exact;
    solved.factors.sigma = {3, 2, 1};
    solved.factors.u = Small::Identity(rows, 3);
    solved.factors.v = Small::Identity(cols, 3);
    return solved;
  }
  /// Entry (i, i) for i = 0, 1, 2 of the edited rows [first, first + 3), which were zero.
  std::vector<float> diagonal(Blend blend, const Solved& solved) {
    std::vector<float> zeros(static_cast<std::size_t>(3 * cols));
    const Target target(0, table_, out_, blend);
    target.apply(item_, solved, 0, std::as_writable_bytes(std::span(zeros)), {});
    return {zeros[0], zeros[cols + 1], zeros[2 * cols + 2]};
  }
  static std::vector<std::byte> bytes(std::uint64_t count) {
    std::vector<std::byte> all(count);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i * 7 + i / 256);
    return all;
  }

  std::vector<std::string> log_;
  Checkpoint table_;
  testing::MemoryStorage out_{&log_, "out"};
  Item item_;
};

TEST_F(TargetTest, ABlendTakesItsFirstTriplets) {
  EXPECT_EQ(diagonal({full_rank, 1}, three()), (std::vector<float>{3, 2, 1}));
  EXPECT_EQ(diagonal({2, 0.5}, three()), (std::vector<float>{1.5, 1, 0}));
  EXPECT_EQ(diagonal({100, 1}, three()), (std::vector<float>{3, 2, 1})) << "no more than there are";
  EXPECT_EQ(diagonal({1, 1}, Solved()), (std::vector<float>{0, 0, 0})) << "no difference, no edit";
}

TEST_F(TargetTest, OfFullRankItIsTheDelta) {
  Solved solved;
  solved.largest = 1;
  solved.spectrum.method = Method::full;
  std::vector<float> values(cols, 20);
  std::vector<float> delta(cols);
  delta.front() = 1;
  delta.back() = -1;
  const Target target(0, table_, out_, {full_rank, 2});
  const EditSummary edit = target.apply(item_, solved, 0, std::as_writable_bytes(std::span(values)), delta);
  EXPECT_EQ(values.front(), 22);
  EXPECT_EQ(values[1], 20);
  EXPECT_EQ(values.back(), 18);
  EXPECT_EQ(edit.changed, 2);
}

TEST_F(TargetTest, RowsThatTheBaseHasNotStayAsTheyAre) {
  item_.matrix.common = 2;
  EXPECT_EQ(diagonal({full_rank, 1}, three()), (std::vector<float>{3, 2, 0}));
  item_.rows = {1, 3};
  EXPECT_EQ(diagonal({full_rank, 1}, three()), (std::vector<float>{3, 0, 0})) << "rows 1 to 3 of the matrix";
}

/// All bytes of the rows are in the record: as pieces with checksums, and those of shared pages as edges.
TEST_F(TargetTest, WritesItsOwnPagesAndKeepsTheEdges) {
  Target target(3, table_, out_, {});
  EXPECT_EQ(target.position(item_.matrix, 2), offset + matrix_bytes + 2 * cols * 4);
  const std::vector<std::byte> whole = bytes(matrix_bytes);
  Record record;
  target.write(item_.matrix, {0, rows}, 0, whole, record);
  ASSERT_EQ(record.pieces.size(), 1U);
  EXPECT_EQ(record.pieces[0].target, 3);
  EXPECT_EQ(record.pieces[0].first, matrix_bytes);
  EXPECT_EQ(record.pieces[0].bytes, matrix_bytes);
  EXPECT_EQ(record.pieces[0].xxh3, checksum(whole));
  EXPECT_EQ(record.timing.bytes_written, matrix_bytes);
  ASSERT_EQ(record.edges.size(), 2U);
  for (const Edge& edge : record.edges) {
    EXPECT_LT(edge.bytes, 4096U);
    out_.write(table_.tensors[0].extent, edge.first, edge.waits);
  }
  std::vector<std::byte> written(matrix_bytes);
  out_.read(table_.tensors[0].extent, matrix_bytes, written);
  EXPECT_EQ(written, whole);
}

TEST_F(TargetTest, SyncsEachFileOnce) {
  Target target(0, table_, out_, {});
  Record record;
  target.sync();
  EXPECT_TRUE(log_.empty());
  target.write(item_.matrix, {0, rows}, 0, bytes(matrix_bytes), record);
  log_.clear();
  target.sync();
  target.sync();
  EXPECT_EQ(log_, std::vector<std::string>{"sync out0"});
}

TEST_F(TargetTest, CopiesAWholeTensor) {
  Target target(0, table_, out_, {});
  item_.action = Action::copy;
  const std::vector<std::byte> all = bytes(2 * matrix_bytes);
  Record record;
  const auto read = [&](std::uint64_t first, std::span<std::byte> to) {
    std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(first), to.size(), to.begin());
  };
  Target* const targets[] = {&target};
  copy_tensor(item_, read, targets, record);
  for (const Edge& edge : record.edges) out_.write(table_.tensors[0].extent, edge.first, edge.waits);
  std::vector<std::byte> written(all.size());
  out_.read(table_.tensors[0].extent, 0, written);
  EXPECT_EQ(written, all);
  EXPECT_EQ(record.timing.bytes_read, all.size());
  EXPECT_EQ(record.timing.bytes_written, all.size());
}

TEST_F(TargetTest, ADiskThatFailsIsAnError) {
  Target target(0, table_, out_, {});
  Record record;
  out_.fails = true;
  testing::expect_error(ExitCode::io,
                        [&] {
                          target.write(item_.matrix, {0, rows}, 0, bytes(matrix_bytes), record);
                        },
                        {"the disk fails"});
  EXPECT_TRUE(record.pieces.empty()) << "what is not written is not vouched for";
}

TEST_F(TargetTest, AnEditOutOfRangeIsRefused) {
  Record record;
  record.key.name = "w";
  EditSummary edit;
  edit.edit_squared = 9;
  edit.changed = 4;
  add_edit(record, DType::F16, edit);
  ASSERT_EQ(record.edits.size(), 1U);
  EXPECT_EQ(record.edits[0].norm, 3);
  EXPECT_EQ(record.edits[0].changed, 4);
  edit.finite = false;
  testing::expect_error(ExitCode::bad_input, [&] { add_edit(record, DType::F16, edit); },
                        {"'w'", "F16", "--coef"});
}

}  // namespace
}  // namespace lox
