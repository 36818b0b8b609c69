// SPDX-License-Identifier: MIT
#include "lox/run/row_reader.hpp"

#include "lox/base/random.hpp"

#include <cmath>
#include <limits>

#include "support/expect_error.hpp"
#include "support/memory_storage.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// A pair of models of one tensor [2, rows, cols] each, in memory: BF16 when aligned, F32 before.
class RowReaderTest : public ::testing::Test {
 protected:
  void make(Index rows, Index cols) {
    const std::vector<std::int64_t> shape{2, rows, cols};
    matrix_ = {{0, 0}, 1, rows, cols};  // the second of the batch
    const auto count = static_cast<std::size_t>(2 * rows * cols);
    for (Model* model : {&aligned_, &base_}) {
      for (std::size_t i = 0; i < count; ++i) model->values.push_back(0.02 * normal_at(model->key, i));
      const std::size_t bytes = count * element_bytes(model->dtype);
      TensorInfo tensor{"w", model->dtype, shape, {0, model->offset, bytes}, ""};
      model->table.tensors = {tensor};
      model->table.files = {model->name};
      model->table.path = model->name;
      store(*model);
    }
  }

  struct Model {
    std::string name;
    DType dtype;
    std::uint64_t offset;
    std::uint64_t key;
    std::vector<double> values;
    Checkpoint table;
    testing::MemoryStorage storage;
  };
  /// Rounds the values to the dtype, and puts them into the model's bytes.
  static void store(Model& model) {
    std::vector<std::byte> bytes(model.values.size() * element_bytes(model.dtype));
    from_double(model.dtype, model.values.data(), model.values.size(), bytes.data());
    to_double(model.dtype, bytes.data(), model.values.size(), model.values.data());
    model.storage.write(model.table.tensors[0].extent, 0, bytes);
  }
  /// Position among the values of an entry of the matrix.
  std::size_t at(Index row, Index col) const {
    return static_cast<std::size_t>((matrix_.rows + row) * matrix_.cols + col);
  }
  void expect_rows(RowSlab slab, Index first, Index count) {
    const auto n = static_cast<std::size_t>(count * matrix_.cols);
    ASSERT_EQ(slab.delta.floats().size(), n);
    ASSERT_EQ(slab.aligned.size(), n * 2);
    std::vector<double> rows(n);
    to_double(DType::BF16, slab.aligned.data(), n, rows.data());
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t there = at(first, 0) + i;
      ASSERT_EQ(rows[i], aligned_.values[there]) << i;
      ASSERT_EQ(slab.delta.floats()[i], static_cast<float>(aligned_.values[there] - base_.values[there]))
          << i;
    }
  }
  void expect_refused(std::initializer_list<std::string_view> parts) {
    testing::expect_error(
        ExitCode::bad_input, [&] { reader().read(matrix_, 0, matrix_.rows); }, parts);
  }
  RowReader reader() {
    return RowReader({{&aligned_.table, &aligned_.storage}, {&base_.table, &base_.storage}});
  }

  Model aligned_{"aligned.safetensors", DType::BF16, 10, 1, {}, {}, testing::MemoryStorage()};
  Model base_{"base.safetensors", DType::F32, 6, 2, {}, {}, testing::MemoryStorage()};
  MatrixRef matrix_;
};

TEST_F(RowReaderTest, SubtractsTheRowsThatAreAskedFor) {
  make(40, 30);
  expect_rows(reader().read(matrix_, 0, 40), 0, 40);
  RowSlab some = reader().read(matrix_, 7, 5);
  EXPECT_EQ(some.bytes_read, 5U * 30 * (2 + 4));
  double squared = 0;
  for (const float value : some.delta.floats()) squared += static_cast<double>(value) * value;
  EXPECT_NEAR(some.summary.norm_squared, squared, 1e-12 * squared);
  expect_rows(std::move(some), 7, 5);
  EXPECT_EQ(reader().tensor(matrix_, base_model).dtype, DType::F32);
}

/// Rows of more than one piece of the base (512 KiB), and pieces of more than one row.
TEST_F(RowReaderTest, LongRowsAreReadInSegments) {
  make(3, 150'001);
  expect_rows(reader().read(matrix_, 0, 3), 0, 3);
  expect_rows(reader().read(matrix_, 1, 1), 1, 1);
}

TEST_F(RowReaderTest, ContentDoesNotDependOnTheSlabs) {
  make(40, 30);
  const PairContent whole = reader().read(matrix_, 0, 40).content;
  PairContent sum;
  for (const auto& [first, count] : std::vector<std::pair<Index, Index>>{{33, 7}, {0, 1}, {1, 32}}) {
    sum.add(reader().read(matrix_, first, count).content);
  }
  EXPECT_EQ(sum.aligned, whole.aligned);
  EXPECT_EQ(sum.base, whole.base);
  EXPECT_NE(whole.aligned, whole.base);
  base_.values[at(3, 4)] += 1;
  store(base_);
  EXPECT_NE(reader().read(matrix_, 0, 40).content.base, whole.base);
  EXPECT_EQ(reader().read(matrix_, 0, 40).content.aligned, whole.aligned);
}

TEST_F(RowReaderTest, NumbersThatAreNoneAreNamed) {
  make(40, 30);
  const std::string index = std::to_string(at(5, 6));
  base_.values[at(5, 6)] = std::numeric_limits<double>::quiet_NaN();
  store(base_);
  expect_refused({"base.safetensors", "'w'", "base model", "NaN", "index " + index});
  aligned_.values[at(5, 6)] = std::numeric_limits<double>::infinity();
  store(aligned_);
  expect_refused({"aligned.safetensors", "aligned model", "Inf", "index " + index});
  EXPECT_NO_THROW(reader().read(matrix_, 6, 34)) << "other rows are well";
}

TEST_F(RowReaderTest, ADifferenceBeyondFloatIsRefused) {
  make(40, 30);
  base_.values[at(0, 1)] = -3e38;
  aligned_.values[at(0, 1)] = 3e38;
  store(base_);
  store(aligned_);
  expect_refused({"'w'", "overflows"});
}

TEST_F(RowReaderTest, WhatCannotBeReadIsAnError) {
  make(40, 30);
  base_.storage.files[0].resize(base_.storage.files[0].size() - 1);
  EXPECT_NO_THROW(reader().read(matrix_, 0, 39));
  testing::expect_error(ExitCode::io, [&] { reader().read(matrix_, 39, 1); }, {"beyond the end"});
}

}  // namespace
}  // namespace lox
