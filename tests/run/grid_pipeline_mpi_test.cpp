// SPDX-License-Identifier: MIT
#include "lox/base/stop.hpp"
#include "lox/run/grid_pipeline.hpp"

#include <chrono>
#include <thread>

#include "support/scratch.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

class FakeSteps final : public GridSteps {
 public:
  Record solve_together(const Item& item) override {
    if (item.matrix.tensors[0] == fails_at) throw SharedError(ExitCode::bad_input, "wrong data");
    Record record;
    record.key.name = std::to_string(item.matrix.tensors[0]);
    record.timing.bytes_read = 3;
    record.timing.bytes_written = 4;
    seen.push_back(item.matrix.tensors[0]);
    return record;
  }
  const WorkTimes& times() const override { return times_; }
  std::vector<int> seen;
  int fails_at = -1;
  WorkTimes times_;
};

class FakeProgress final : public Progress {
 public:
  void update(Counts mine) override { last = mine; }
  int stop_urgency() const override { return steps != nullptr && steps->seen.size() >= stop_after ? 1 : 0; }
  const FakeSteps* steps = nullptr;
  std::size_t stop_after = 0;
  Counts last;
};

std::vector<Item> items() {
  std::vector<Item> all(6);
  for (int i = 0; i < 6; ++i) {
    all[static_cast<std::size_t>(i)].matrix.tensors = {i};
    all[static_cast<std::size_t>(i)].where = i % 2 == 0 ? Where::grid : Where::local;
  }
  return all;
}

class GridPipelineTest : public ::testing::Test {
 protected:
  GridPipelineTest() : comm_(Comm::world()), journal_(scratch_.path(), 1, comm_.rank()) {}
  testing::Scratch scratch_;  // each rank has its own
  Comm comm_;
  Journal journal_;
  FakeSteps steps_;
  FakeProgress progress_;
  Counts counts_;
};

TEST_F(GridPipelineTest, DoesTheGridItemsInOrderAndRankZeroVouches) {
  const std::vector<Record> records = run_on_grid(comm_, steps_, journal_, items(), progress_, counts_);
  EXPECT_EQ(steps_.seen, (std::vector{0, 2, 4}));
  const std::size_t expected = comm_.is_root() ? 3 : 0;
  EXPECT_EQ(records.size(), expected);
  EXPECT_EQ(Journal::load(scratch_.path()).size(), expected);
  EXPECT_EQ(counts_.items, static_cast<std::int64_t>(expected));
  EXPECT_EQ(counts_.bytes, expected * 7);
}

/// The wish of one rank stops all of them before the next item.
TEST_F(GridPipelineTest, OneRankStopsAll) {
  if (comm_.rank() == comm_.size() - 1) {
    progress_.steps = &steps_;
    progress_.stop_after = 2;
  }
  run_on_grid(comm_, steps_, journal_, items(), progress_, counts_);
  EXPECT_EQ(steps_.seen, (std::vector{0, 2}));
}

TEST_F(GridPipelineTest, WhatWasFinishedBeforeAFailureStaysInTheJournal) {
  steps_.fails_at = 4;
  EXPECT_THROW(run_on_grid(comm_, steps_, journal_, items(), progress_, counts_), SharedError);
  EXPECT_EQ(Journal::load(scratch_.path()).size(), comm_.is_root() ? 2U : 0U);
}

/// Counts of all ranks come together, and the urgency of one reaches all.
TEST(RankProgress, SpreadsTheWishToStop) {
  const Comm comm = Comm::world();
  RankProgress progress(comm, Log(), {100, 10}, {});
  progress.update({10, 1});
  if (comm.rank() == comm.size() - 1) request_stop(1);
  for (int i = 0; i < 2000 && progress.stop_urgency() == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    progress.update({10, 1});
  }
  EXPECT_EQ(progress.stop_urgency(), 1);
  progress.finish({10, 1});
  forget_stop();
}

}  // namespace
}  // namespace lox
