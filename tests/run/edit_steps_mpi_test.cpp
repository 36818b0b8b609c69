// SPDX-License-Identifier: MIT
#include "lox/base/checksum.hpp"
#include "lox/run/edit_steps.hpp"

#include <cmath>

#include "support/expect_error.hpp"
#include "support/memory_storage.hpp"
#include "support/scratch.hpp"
#include <Eigen/SVD>
#include <gtest/gtest.h>

namespace lox {
namespace {

using testing::MemoryStorage;
using Dense = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr Index rows = 60;  // some whole pages, and edges
constexpr Index cols = 90;

std::vector<std::byte> stored(const Dense& values, DType dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(values.size()) * element_bytes(dtype));
  from_double(dtype, values.data(), static_cast<std::size_t>(values.size()), bytes.data());
  return bytes;
}

Dense loaded(std::span<const std::byte> bytes, DType dtype, Index m) {
  Dense values(m, cols);
  to_double(dtype, bytes.data(), static_cast<std::size_t>(values.size()), values.data());
  return values;
}

/// A model of one tensor [2, 12, 18] in memory: BF16 when aligned, F32 before; and two targets of other
/// coefs.
class EditStepsTest : public ::testing::Test {
 protected:
  EditStepsTest() {
    Dense base = Dense::Random(2 * rows, cols) * 0.02;
    Dense aligned = base + 1e-3 * Dense::Random(2 * rows, cols);
    for (auto [table, storage, dtype, values, offset] :
         {std::tuple(&base_table_, &base_, DType::F32, &base, 100),
          std::tuple(&table_, &aligned_, DType::BF16, &aligned, 8)}) {
      TensorInfo tensor{"experts", dtype, {2, rows, cols}, {}, ""};
      const std::vector<std::byte> bytes = stored(*values, dtype);
      tensor.extent = {0, static_cast<std::uint64_t>(offset), bytes.size()};
      table->tensors = {tensor};
      table->files = {"model"};
      storage->write(tensor.extent, 0, bytes);
      *values = loaded(bytes, dtype, 2 * rows);
    }
    weights_ = aligned;
    before_ = base;
    item_.matrix = {{0, 0}, 1, rows, cols};  // the second matrix of the batch
    item_.action = Action::edit;
    item_.dtype = DType::BF16;
    item_.base_dtype = DType::F32;
    item_.method = Method::exact;
    item_.k = options_.k = 3;
    log_.clear();
  }

  EditSteps steps() {
    return EditSteps(comm_, reader_, options_, {&first_, &second_}, journal_, Log(), std::uint64_t{1} << 30);
  }
  /// The second matrix, with coef times the best rank-k part of its delta.
  Dense expected(Index k, double coef) const {
    const Dense w = weights_.bottomRows(rows);
    const Eigen::JacobiSVD<Dense> svd(w - before_.bottomRows(rows),
                                      Eigen::ComputeThinU | Eigen::ComputeThinV);
    return w + coef * svd.matrixU().leftCols(k) * svd.singularValues().head(k).asDiagonal() *
                   svd.matrixV().leftCols(k).transpose();
  }
  Dense written(MemoryStorage& storage) {
    std::vector<std::byte> bytes(rows * cols * 2);
    storage.read(table_.tensors[0].extent, bytes.size(), bytes);
    return loaded(bytes, DType::BF16, rows);
  }
  void expect_close(const Dense& found, const Dense& wanted) {
    for (Index i = 0; i < wanted.size(); ++i) {
      EXPECT_NEAR(found.data()[i], wanted.data()[i], 0.51 * ulp(DType::BF16, wanted.data()[i]) + 1e-7) << i;
    }
  }

  testing::Scratch scratch_;
  Comm comm_{MPI_COMM_SELF};
  std::vector<std::string> log_;
  Checkpoint table_;
  Checkpoint base_table_;
  MemoryStorage base_;
  MemoryStorage aligned_;
  MemoryStorage out_{&log_, "a"};
  MemoryStorage other_{&log_, "b"};
  Dense weights_;
  Dense before_;
  /// Puts the edges in place, as rank 0 does at the end.
  void settle(const Record& record) {
    for (const Edge& edge : record.edges) {
      const auto bytes = edge.waits.empty() ? EdgeReader(scratch_.path()).read(edge) : edge.waits;
      (edge.target == 0 ? out_ : other_).write(table_.tensors[0].extent, edge.first, bytes);
    }
    log_.clear();
  }
  static void commit(EditSteps& work, Record record) {
    std::vector<Record> records{std::move(record)};
    work.commit(records);
  }
  RowReader reader_{{{&table_, &aligned_}, {&base_table_, &base_}}};
  Target first_{0, table_, out_, {full_rank, 1.25}};
  Target second_{1, table_, other_, {2, 0.5}};
  Journal journal_{scratch_.path(), 1, 0};
  SolveOptions options_;
  Item item_;
};

TEST_F(EditStepsTest, OneSolutionServesTwoTargets) {
  EditSteps work = steps();
  Parcel parcel;
  parcel.item = item_;
  work.read(parcel);
  ASSERT_TRUE(work.solve(parcel));
  work.write(parcel);
  const Record& record = parcel.record;
  settle(record);
  expect_close(written(out_), expected(3, 1.25));
  expect_close(written(other_), expected(2, 0.5));
  EXPECT_EQ(record.key.name, "experts");
  EXPECT_EQ(record.key.matrix, 1);
  ASSERT_EQ(record.edits.size(), 2U);
  EXPECT_NEAR(record.edits[0].norm, (expected(3, 1.25) - weights_.bottomRows(rows)).norm(), 1e-6);
  EXPECT_NEAR(record.edits[1].norm, (expected(2, 0.5) - weights_.bottomRows(rows)).norm(), 1e-6);
  ASSERT_EQ(record.pieces.size(), 2U);
  for (int t = 0; t < 2; ++t) {
    const Piece& piece = record.pieces[static_cast<std::size_t>(t)];
    std::vector<std::byte> bytes(piece.bytes);
    (t == 0 ? out_ : other_).read(table_.tensors[0].extent, piece.first, bytes);
    EXPECT_EQ(piece.target, t);
    EXPECT_EQ(piece.first, static_cast<std::uint64_t>(rows * cols * 2));
    EXPECT_EQ(piece.xxh3, checksum(bytes));
  }
  // Both disks have it before the journal vouches for it.
  EXPECT_TRUE(Journal::load(scratch_.path()).empty());
  commit(work, record);
  EXPECT_EQ(log_, (std::vector<std::string>{"sync a0", "sync b0"}));
  EXPECT_EQ(Journal::load(scratch_.path()).size(), 1U);
  commit(work, record);
  EXPECT_EQ(log_.size(), 2U) << "nothing new to sync";
}

TEST_F(EditStepsTest, TheGridGivesTheSame) {
  item_.where = Where::grid;
  EditSteps work = steps();
  const Record record = work.solve_together(item_);
  settle(record);
  expect_close(written(out_), expected(3, 1.25));
  expect_close(written(other_), expected(2, 0.5));
  EXPECT_EQ(record.edits.size(), 2U);
  EXPECT_GT(work.times().solving, 0);
  item_.method = Method::full;
  item_.k = options_.k = full_rank;
  EditSteps whole = steps();
  settle(whole.solve_together(item_));
  expect_close(written(out_), expected(rows, 1.25));
  EXPECT_GT(whole.times().solving, 0) << "full rank takes time, too";
}

TEST_F(EditStepsTest, WithoutADifferenceTheAlignedBytesStay) {
  base_table_ = table_;
  base_.files = aligned_.files;
  item_.base_dtype = DType::BF16;
  EditSteps work = steps();
  Parcel parcel;
  parcel.item = item_;
  work.read(parcel);
  ASSERT_TRUE(work.solve(parcel));
  work.write(parcel);
  EXPECT_EQ(parcel.record.key.action, Action::copy);
  EXPECT_TRUE(parcel.record.edits.empty());
  settle(parcel.record);
  EXPECT_EQ(written(out_), Dense(weights_.bottomRows(rows)));
  EXPECT_EQ(written(other_), Dense(weights_.bottomRows(rows)));
}

TEST_F(EditStepsTest, NumbersThatAreNoneAreNamed) {
  const float nan = std::nanf("");
  base_.write(base_table_.tensors[0].extent, (rows * cols + 7) * 4, std::as_bytes(std::span(&nan, 1)));
  EditSteps work = steps();
  Parcel parcel;
  parcel.item = item_;
  testing::expect_error(ExitCode::bad_input, [&] { work.read(parcel); },
                        {"'experts'", "base", "NaN", fmt::format("index {}", rows * cols + 7)});
}

TEST_F(EditStepsTest, ADiskThatFailsIsAnError) {
  EditSteps work = steps();
  Parcel parcel;
  parcel.item = item_;
  work.read(parcel);
  ASSERT_TRUE(work.solve(parcel));
  other_.fails = true;
  testing::expect_error(ExitCode::io, [&] { work.write(parcel); }, {"disk fails"});
  other_.fails = false;
  work.write(parcel);
  other_.fails = true;
  testing::expect_error(ExitCode::io, [&] { commit(work, parcel.record); }, {"disk fails"});
  EXPECT_TRUE(Journal::load(scratch_.path()).empty()) << "what is not on disk is not vouched for";
}

TEST_F(EditStepsTest, CopiesGoToEveryTarget) {
  EditSteps work = steps();
  Parcel parcel;
  parcel.item.matrix.tensors = {0, 0};
  parcel.item.bytes = table_.tensors[0].extent.bytes;
  work.write(parcel);
  settle(parcel.record);
  EXPECT_EQ(out_.files, aligned_.files);
  EXPECT_EQ(other_.files, aligned_.files);
  EXPECT_EQ(parcel.record.key.entries, 2 * rows * cols);
  EXPECT_EQ(parcel.record.timing.bytes_written, 2 * parcel.item.bytes);
}

}  // namespace
}  // namespace lox
