// SPDX-License-Identifier: MIT
#include "lox/plan/plan.hpp"

#include "lox/base/error.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/shapes.hpp"

#include <algorithm>
#include <numeric>

#include "support/expect_error.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// A model that is only a table.
Checkpoint model_of(const std::string& shape, std::int64_t layers = -1) {
  Checkpoint model;
  model.path = shape;
  model.tensors = model_tensors(model_shape(shape), layers);
  return model;
}

Item item_of(Index rows, Index cols, double seconds) {
  Item item;
  item.action = Action::edit;
  item.matrix.rows = rows;
  item.matrix.cols = cols;
  item.k = 6;
  item.seconds = seconds;
  return item;
}

std::ptrdiff_t on_grid(const std::vector<Item>& items) {
  return std::count_if(items.begin(), items.end(), [](const Item& i) { return i.where == Where::grid; });
}

TEST(Deal, GivesTheLongestToTheLeastLoaded) {
  std::vector<Item> items;
  for (const double seconds : {7.0, 6.0, 5.0, 4.0, 3.0, 2.0}) items.push_back(item_of(100, 100, seconds));
  EXPECT_EQ(deal(items, 3), 9);
  std::vector<int> ranks;
  for (const Item& item : items) ranks.push_back(item.rank);
  EXPECT_EQ(ranks, (std::vector<int>{0, 1, 2, 2, 1, 0}));
}

TEST(Deal, EveryItemHasARankWithinBounds) {
  Job job;
  const Checkpoint model = model_of("mixtral-8x7b");
  for (const int ranks : {1, 2, 7, 64, 5000}) {
    const Plan plan = make_plan(model, model, job, {ranks, {}});
    for (const Item& item : plan.items) {
      EXPECT_GE(item.rank, 0);
      EXPECT_LT(item.rank, ranks);
    }
  }
}

TEST(GridChoice, ManyEqualItemsStayLocal) {
  std::vector<Item> items(64, item_of(4096, 4096, 0));
  for (Item& item : items) item.seconds = local_cost(item).seconds;
  choose_grid_items(items, GridUse::automatic, {8, {}});
  EXPECT_EQ(on_grid(items), 0);
}

TEST(GridChoice, OneLongItemThatWouldLeaveTheOthersIdleIsShared) {
  std::vector<Item> items{item_of(131072, 8192, 0)};
  for (int i = 0; i < 8; ++i) items.push_back(item_of(2048, 2048, 0));
  for (Item& item : items) item.seconds = local_cost(item).seconds;
  choose_grid_items(items, GridUse::automatic, {8, {}});
  EXPECT_EQ(on_grid(items), 1);
  EXPECT_EQ(items.front().where, Where::grid);
  // The finishing time predicted with it is at least a twentieth shorter than without.
  std::vector<Item> local = items;
  for (Item& item : local) {
    item.where = Where::local;
    item.seconds = local_cost(item).seconds;
  }
  EXPECT_LT(items.front().seconds + deal(items, 8), 0.95 * deal(local, 8));
}

TEST(GridChoice, WhatDoesNotFitARankIsShared) {
  std::vector<Item> items{item_of(16384, 8192, 0)};
  for (int i = 0; i < 8; ++i) items.push_back(item_of(1024, 1024, 0));
  for (Item& item : items) item.seconds = local_cost(item).seconds;
  const std::uint64_t memory = program_memory + local_cost(items[1]).memory + (1 << 20);
  choose_grid_items(items, GridUse::automatic, {2, memory});
  EXPECT_EQ(items[0].where, Where::grid);
  EXPECT_EQ(on_grid(items), 1);
}

TEST(GridChoice, NeverAndAlwaysForceIt) {
  std::vector<Item> items{item_of(131072, 8192, 100), item_of(64, 64, 0.1)};
  choose_grid_items(items, GridUse::never, {8, 1});
  EXPECT_EQ(on_grid(items), 0);
  choose_grid_items(items, GridUse::always, {1, {}});
  EXPECT_EQ(on_grid(items), 2);
}

TEST(Plan, RefusesWhatFitsNowhereNamingTensorNumberAndRemedy) {
  Job job;
  const Checkpoint model = model_of("llama-3.1-405b", 1);
  try {
    make_plan(model, model, job, {4, std::uint64_t{1} << 30});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_input);
    const std::string text = error.what();
    for (const char* part : {"embed_tokens.weight", "GB", "1.07 GB", "--memory", "more ranks"}) {
      EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
    }
  }
}

TEST(Plan, CountsTheBookKeepingOfManyMatricesBeforeItListsThem) {
  Checkpoint model;
  model.path = "m";
  model.tensors = {{"w", DType::BF16, {std::int64_t{1} << 56, 2, 2}, {}, ""},
                   {"v", DType::BF16, {64, 64}, {}, ""}};
  Job job;
  testing::expect_error(ExitCode::bad_input,
                        [&] {
                          make_plan(model, model, job, {1, std::uint64_t{1} << 40});
                        },
                        {"'w'", "72057594037927936 matrices", "--exclude", "--memory"});
  job.selection.exclude = {"^w$"};
  const Plan plan = make_plan(model, model, job, {1, std::uint64_t{1} << 30});
  EXPECT_EQ(plan.items.size(), 2U);
  EXPECT_GT(forecast(plan, model, 1).ranks[0].memory, program_memory + plan.book_keeping);
}

TEST(Plan, AWholeLargeModelIsPlannedAtOnce) {
  Job job;
  const Checkpoint model = model_of("llama-3.1-405b");
  const int ranks = 64;
  const Plan plan = make_plan(model, model, job, {ranks, std::uint64_t{32} << 30});
  EXPECT_EQ(plan.items.size(), model.tensors.size());
  const Forecast f = forecast(plan, model, ranks);
  EXPECT_EQ(f.disk, model.bytes());
  EXPECT_GE(f.bytes_written, model.bytes() - static_cast<std::uint64_t>(ranks) * plan.items.size());
  EXPECT_LE(f.bytes_written, model.bytes());
  double mean = 0;
  for (const Forecast::Rank& rank : f.ranks) {
    EXPECT_LE(rank.memory, std::uint64_t{32} << 30);
    mean += rank.seconds / ranks;
  }
  EXPECT_LE(f.seconds, 1.1 * mean);  // no rank works much longer than the others
}

/// Models that are analysed one after the other take a rank little more memory than the first alone, and are
/// read once.
TEST(Plan, AnAnalysisNeedsTheMemoryOfHarden) {
  Job job;
  const Checkpoint model = model_of("llama-3-70b", 2);
  const Plan harden = make_plan(model, model, job, {1, {}});
  const auto worst = [](const Plan& plan) {
    std::uint64_t bytes = 0;
    for (const Item& item : plan.items) bytes = std::max(bytes, local_cost(item).memory);
    return bytes;
  };
  std::vector<NamedModel> models{{"aligned", &model}, {"base", &model}};
  EXPECT_EQ(worst(plan_analysis(models, job, {}, {1, {}})), worst(harden));
  for (int tuned = 1; tuned <= 3; ++tuned) {
    models.push_back({"tuned", &model});
    const Plan plan = plan_analysis(models, job, {10, 0}, {1, {}});
    EXPECT_LT(static_cast<double>(worst(plan)), 1.02 * static_cast<double>(worst(harden)));
    std::uint64_t bytes = 0;
    for (const TensorInfo& tensor : model.tensors) bytes += tensor.shape.size() > 1 ? tensor.extent.bytes : 0;
    EXPECT_EQ(forecast(plan, model, 1).bytes_read, (2 + static_cast<std::uint64_t>(tuned)) * bytes);
  }
}

}  // namespace
}  // namespace lox
