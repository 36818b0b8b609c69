// SPDX-License-Identifier: MIT
#include "lox/io/factors.hpp"

#include <limits>

#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

std::vector<TensorInfo> aligned_tensors() {
  return {{"up", DType::BF16, {7, 5}, {}, ""},
          {"experts", DType::F32, {2, 4, 9}, {}, ""},
          {"a \"quoted\"\n name", DType::F16, {6, 6}, {}, ""}};
}

/// Numbers as long as they can be.
FactorsInfo longest_info(std::int64_t k) {
  constexpr double long_number = -2.2250738585072014e-308;
  FactorsInfo info;
  info.lox = "0.1.0";
  info.k = k;
  info.job = {{"k", k}, {"include", {"\\.weight\"$"}}, {"seed", 0U}, {"tolerance", 1e-4}};
  info.base = {{"path", "/b"}};
  info.aligned = {{"path", "/a"}};
  for (const auto& [tensor, matrix] : {std::pair("up", 0), std::pair("experts", 0), std::pair("experts", 1),
                                       std::pair("a \"quoted\"\n name", 0)}) {
    FactorEntry entry{tensor,     matrix,      {},          long_number, "krylov", -1.23e-105,
                      -1.23e-105, long_number, long_number, false,       {},       {}};
    entry.aligned.sums = {0x0123456789abcdefULL, std::numeric_limits<std::uint64_t>::max()};
    entry.residuals.assign(static_cast<std::size_t>(k), -1.23e-105);
    for (std::int64_t i = 1; i < k; ++i) entry.open.push_back({i, 1.23e-105, "unfinished"});
    info.matrices.push_back(std::move(entry));
  }
  return info;
}

FactorsInfo without_numbers(FactorsInfo info) {
  for (FactorEntry& entry : info.matrices)
    entry = {entry.tensor, entry.matrix, {}, 0, "", 0, 0, 0, 0, true, {}, {}};
  return info;
}

TEST(Factors, ThePartsOfATensor) {
  const std::vector<TensorInfo> tensors = factor_tensors(aligned_tensors(), 4);
  std::vector<std::string> names;
  std::uint64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    names.push_back(tensor.name);
    const std::uint64_t width = tensor.name == "experts.s_low" ? 8 : 4;
    EXPECT_EQ(tensor.dtype, width == 8 ? DType::F64 : DType::F32);
    EXPECT_EQ(tensor.extent.bytes, static_cast<std::uint64_t>(tensor.elements()) * width);
    EXPECT_EQ(offset % width, 0U) << "readers map entries where they lie";
    offset += tensor.extent.bytes;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"experts.s_low", "up.u", "up.s", "up.v", "experts.u",
                                             "experts.s", "experts.v", "experts.u_low", "experts.v_low",
                                             "experts.delta", "a \"quoted\"\n name.u",
                                             "a \"quoted\"\n name.s", "a \"quoted\"\n name.v"}));
  EXPECT_EQ(tensors[1].shape, (std::vector<std::int64_t>{7, 4}));
  EXPECT_EQ(tensors[3].shape, (std::vector<std::int64_t>{5, 4}));
  EXPECT_EQ(tensors[5].shape, (std::vector<std::int64_t>{2, 4}));
  EXPECT_EQ(tensors[6].shape, (std::vector<std::int64_t>{2, 9, 4}));
  EXPECT_EQ(tensors[9].shape, (std::vector<std::int64_t>{2, 4, 9}));
}

class FactorStoreTest : public ::testing::TestWithParam<const char*> {
 protected:
  Checkpoint make(std::int64_t k) {
    const Checkpoint like = factors_to_make(factor_tensors(aligned_tensors(), k), format_of(path_),
                                            longest_factors_text(without_numbers(longest_info(k))));
    return create_checkpoint(like, path_, format_of(path_));
  }
  testing::Scratch scratch_;
  fs::path path_ = scratch_.path() / GetParam();
};

TEST_P(FactorStoreTest, TheTextHasItsPlaceBeforeThereIsANumber) {
  for (const std::int64_t k : {1, 3, 40}) {
    const Checkpoint made = make(k);
    const std::uint64_t size = made.bytes();
    testing::expect_error(ExitCode::bad_input, [&] { read_factors_info(open_checkpoint(path_)); },
                          {"factors.json", "lox factor"});
    write_factors_info(made, longest_info(k));
    write_factors_info(open_checkpoint(path_), longest_info(k));  // a run that was killed did so before
    const Checkpoint opened = open_checkpoint(path_);
    EXPECT_EQ(opened.bytes(), size);
    const FactorsInfo found = read_factors_info(opened);
    const FactorsInfo expected = longest_info(k);
    EXPECT_EQ(found.k, k);
    EXPECT_EQ(found.job, expected.job);
    ASSERT_EQ(found.matrices.size(), expected.matrices.size());
    for (std::size_t i = 0; i < found.matrices.size(); ++i) {
      EXPECT_EQ(found.matrices[i].tensor, expected.matrices[i].tensor);
      EXPECT_EQ(found.matrices[i].aligned, expected.matrices[i].aligned);
      EXPECT_EQ(found.matrices[i].residuals, expected.matrices[i].residuals);
      EXPECT_EQ(found.matrices[i].open, expected.matrices[i].open);
      EXPECT_EQ(found.matrices[i].delta_norm, expected.matrices[i].delta_norm);
      EXPECT_FALSE(found.matrices[i].settled);
    }
    fs::remove_all(path_);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, FactorStoreTest,
                         ::testing::Values("store", "store.h5", "store.safetensors"));

TEST(Factors, FindsThePartsOfATensor) {
  Checkpoint store;
  store.tensors = factor_tensors(aligned_tensors(), 4);
  const FactorTable table(store);
  EXPECT_EQ(table.find("up"), (FactorIndices{1, 2, 3, -1, -1, -1, -1}));
  EXPECT_EQ(table.find("experts"), (FactorIndices{4, 5, 6, 7, 0, 8, 9}));
  EXPECT_EQ(table.find("norm"), (FactorIndices{-1, -1, -1, -1, -1, -1, -1}));
}

}  // namespace
}  // namespace lox
