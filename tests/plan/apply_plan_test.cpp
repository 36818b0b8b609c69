// SPDX-License-Identifier: MIT
#include "lox/plan/apply_plan.hpp"

#include "lox/linalg/extrapolate.hpp"

#include <map>

#include "support/expect_error.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

Checkpoint model() {
  Checkpoint aligned;
  aligned.path = "aligned";
  aligned.tensors = {{"embed", DType::BF16, {100000, 8192}, {}, ""},
                     {"norm", DType::BF16, {8192}, {}, ""},
                     {"experts", DType::F32, {3, 64, 32}, {}, ""},
                     {"head", DType::BF16, {100, 8192}, {}, ""}};
  for (TensorInfo& tensor : aligned.tensors) {
    tensor.extent.bytes = static_cast<std::uint64_t>(tensor.elements()) * element_bytes(tensor.dtype);
  }
  return aligned;
}

Checkpoint store_of(const Checkpoint& aligned) {
  Checkpoint store;
  store.path = "store";
  store.tensors = factor_tensors({aligned.tensors[0], aligned.tensors[2]}, 40);
  return store;
}

TEST(ApplyPlan, EveryRowOnceInStretchesThatBeginWithABlock) {
  const Checkpoint aligned = model();
  const Plan plan = plan_apply(aligned, store_of(aligned), 40, 40, 2, {4, std::nullopt});
  std::map<std::pair<int, std::int64_t>, Index> rows;
  std::vector<std::uint64_t> load(4);
  std::uint64_t largest = 0;
  int copies = 0;
  for (const Item& item : plan.items) {
    load[static_cast<std::size_t>(item.rank)] += item.bytes;
    if (item.action == Action::copy) {
      ++copies;
      continue;
    }
    largest = std::max(largest, item.bytes);
    EXPECT_EQ(item.rows.first % extrapolation_block(item.dtype, item.matrix.cols), 0);
    rows[{item.matrix.tensors[0], item.matrix.number}] += item.rows.count;
  }
  EXPECT_EQ(copies, 2);
  EXPECT_EQ(rows, (std::map<std::pair<int, std::int64_t>, Index>{
                      {{0, 0}, 100000}, {{2, 0}, 64}, {{2, 1}, 64}, {{2, 2}, 64}}));
  EXPECT_LE(largest, std::uint64_t{256} << 20);
  for (const std::uint64_t bytes : load) EXPECT_GT(bytes, aligned.bytes() / 8) << "shared by all ranks";
}

TEST(ApplyPlan, MemoryIsWhatTheTargetsNeed) {
  const Checkpoint aligned = model();
  const Checkpoint store = store_of(aligned);
  const auto plan = [&](std::size_t targets, std::uint64_t memory) {
    return plan_apply(aligned, store, 40, 40, targets, {1, memory});
  };
  EXPECT_NO_THROW(plan(1, std::uint64_t{1} << 30));
  testing::expect_error(ExitCode::bad_input, [&] { plan(9, std::uint64_t{1} << 30); },
                        {"'embed'", "--memory"});
  const Forecast forecast = forecast_apply(plan(2, std::uint64_t{4} << 30), aligned, 2, 1);
  EXPECT_EQ(forecast.bytes_read, aligned.bytes());
  EXPECT_EQ(forecast.bytes_written, 2 * aligned.bytes());
  EXPECT_EQ(forecast.disk, 2 * aligned.bytes());
}

TEST(ApplyPlan, FactorsOfAnotherModelAreRefused) {
  const Checkpoint aligned = model();
  const auto refused = [&](auto change, std::initializer_list<std::string_view> words) {
    Checkpoint store = store_of(aligned);
    change(store.tensors);
    testing::expect_error(
        ExitCode::bad_input,
        [&] {
          plan_apply(aligned, store, 40, 4, 1, {1, {}});
        },
        words);
  };
  using Tensors = std::vector<TensorInfo>;
  refused(
      [](Tensors& t) {
        t[1].shape = {99999, 40};
      },
      {"store", "'embed.u'", "[99999, 40]", "[100000, 40]"});
  refused([](Tensors& t) { t[2].shape = {39}; }, {"'embed.s'"});
  refused([](Tensors& t) { t[1].shape = {}; }, {"'embed.u'", "[]"});
  refused(
      [](Tensors& t) {
        t[1].shape = {100000, 3}, t[2].shape = {3}, t[3].shape = {8192, 3};
      },
      {"'embed.u'"});
  refused([](Tensors& t) { t[3].dtype = DType::BF16; }, {"'embed.v'", "BF16"});
  refused([](Tensors& t) { t.erase(t.begin() + 3); }, {"lacks", "'embed.v'"});
  refused([](Tensors& t) { t[0].dtype = DType::F32; }, {"'experts.s_low'", "F32", "F64"});
  refused([](Tensors& t) { t[4].name = "other.u"; }, {"'experts.s_low'", "no part"});
  refused(
      [](Tensors& t) {
        t.push_back({"norm.u", DType::F32, {8192, 40}, {}, ""});
      },
      {"'norm'", "no matrix"});
  refused([](Tensors& t) { std::erase_if(t, [](const TensorInfo& x) { return x.name == "experts.delta"; }); },
          {"lacks", "'experts.delta'"});
}

}  // namespace
}  // namespace lox
