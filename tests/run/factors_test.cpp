// SPDX-License-Identifier: MIT
#include "lox/base/random.hpp"
#include "lox/run/apply_steps.hpp"
#include "lox/run/factor_target.hpp"

#include <cmath>

#include "support/expect_error.hpp"
#include "support/memory_storage.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

constexpr Index k = 4;

Small random_columns(Index rows, Index columns, std::uint64_t key) {
  return Small::NullaryExpr(rows, columns, [&](Index i, Index j) {
    return static_cast<double>(normal_at(key, static_cast<std::uint64_t>(i * columns + j))) * (1 + 1e-9);
  });
}

/// A store in memory for one tensor of two 6 x 9 matrices, and the factors of the second one.
class FactorsInStore : public ::testing::Test {
 protected:
  void make(DType dtype, Index triplets) {
    tensor_ = {"w", dtype, {2, 6, 9}, {}, ""};
    store_.tensors = factor_tensors({tensor_}, k);
    std::uint64_t end = 0;
    for (TensorInfo& part : store_.tensors) {
      part.extent.offset = end;
      end += part.extent.bytes;
    }
    storage_.files[0].resize(end);
    solved_.factors = {random_columns(6, triplets, 1), {}, random_columns(9, triplets, 2)};
    for (Index i = 0; i < triplets; ++i) {
      solved_.factors.sigma.push_back(1 / (1 + static_cast<double>(i)) + 1e-9);
    }
    round_factors(solved_.factors, dtype_bits(dtype) > 16);
    item_.matrix.tensors = {0};
    const FactorIndices parts = FactorTable(store_).find("w");
    item_.matrix.tensors.insert(item_.matrix.tensors.end(), parts.begin(), parts.end());
    item_.matrix.number = 1;
    item_.matrix.rows = 6;
    item_.matrix.cols = 9;
    item_.rows = {0, 6};
    item_.k = k;
  }
  void write() {
    FactorTarget target(0, store_, storage_, k);
    Record record;
    target.write("w", 1, target.parts("w", solved_, {}), record);
    for (const Edge& edge : record.edges) {
      storage_.write(store_.tensors[static_cast<std::size_t>(edge.tensor)].extent, edge.first, edge.waits);
    }
    for (const Piece& piece : record.pieces) pieces_ += piece.bytes;
  }
  TensorInfo tensor_;
  Checkpoint store_;
  testing::MemoryStorage storage_;
  Solved solved_;
  Item item_;
  std::uint64_t pieces_ = 0;
};

TEST_F(FactorsInStore, ComeBackAsTheyWere) {
  for (const DType dtype : {DType::BF16, DType::F16, DType::F32, DType::F64}) {
    make(dtype, k);
    write();
    const Solved found = FactorReader(store_, storage_).read(item_);
    EXPECT_EQ(found.factors.u, solved_.factors.u) << dtype_name(dtype);
    EXPECT_EQ(found.factors.v, solved_.factors.v);
    EXPECT_EQ(found.factors.sigma, solved_.factors.sigma);
    EXPECT_FALSE(found.is_zero());
  }
  // An F32 entry alone holds less.
  EXPECT_NE(solved_.factors.u(0, 0), static_cast<double>(static_cast<float>(solved_.factors.u(0, 0))));
}

TEST_F(FactorsInStore, SingularValuesBelowTheSmallestNormalFloat) {
  make(DType::F32, k);
  for (double& sigma : solved_.factors.sigma) sigma *= 1e-43;
  const std::vector<double> asked = solved_.factors.sigma;
  round_factors(solved_.factors, true);
  write();
  EXPECT_EQ(FactorReader(store_, storage_).read(item_).factors.sigma, asked);
}

TEST_F(FactorsInStore, RowsAndFewerTriplets) {
  make(DType::BF16, k);
  write();
  item_.rows = {2, 3};
  item_.k = 2;
  const Solved found = FactorReader(store_, storage_).read(item_);
  EXPECT_EQ(found.factors.u, Small(solved_.factors.u.middleRows(2, 3).leftCols(2)));
  EXPECT_EQ(found.factors.v, Small(solved_.factors.v.leftCols(2)));
  EXPECT_EQ(found.factors.sigma.size(), 2U);
}

TEST_F(FactorsInStore, TripletsThatThereAreNotAreZeroAndNotRead) {
  make(DType::F32, 2);
  write();
  EXPECT_EQ(pieces_, static_cast<std::uint64_t>(((6 + 9) * 2 * 4 + 4 + 8) * k));
  EXPECT_EQ(FactorReader(store_, storage_).read(item_).factors.u.cols(), 2);
  make(DType::F32, 0);
  write();
  EXPECT_TRUE(FactorReader(store_, storage_).read(item_).is_zero());
}

TEST_F(FactorsInStore, NaNIsNamed) {
  make(DType::BF16, k);
  write();
  const float nan = std::nanf("");
  storage_.write(store_.tensors[2].extent, (9 * k + 7) * 4, std::as_bytes(std::span(&nan, 1)));
  testing::expect_error(ExitCode::bad_input, [&] { FactorReader(store_, storage_).read(item_); },
                        {"'w.v'", "NaN", "index 43"});
}

TEST(ExpectedContentsTest, AnotherMatrixIsRefused) {
  Content right;
  right.sums = {1, 2};
  Content wrong = right;
  wrong.sums[1] = 3;
  const ExpectedContents expected{{{"w", 0}, right}};
  EXPECT_NO_THROW(check_content(expected, "w", 0, right));
  testing::expect_error(ExitCode::bad_input, [&] { check_content(expected, "w", 0, wrong); },
                        {"'w'", "factors"});
  testing::expect_error(ExitCode::bad_input, [&] { check_content(expected, "w", 1, right); }, {"'w'", "1"});
}

}  // namespace
}  // namespace lox
