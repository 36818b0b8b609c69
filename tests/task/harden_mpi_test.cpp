// SPDX-License-Identifier: MIT
#include "lox/base/stop.hpp"
#include "lox/io/output.hpp"
#include "lox/report/json.hpp"
#include "lox/task/harden.hpp"
#include "lox/task/verify.hpp"

#include <cmath>

#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include "task/models.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// A pair in one folder for all ranks, made by rank 0.
class TaskTest : public ::testing::Test {
 protected:
  TaskTest() : comm_(Comm::world()), root_(comm_.broadcast(scratch_.path().string())) {
    if (comm_.is_root()) {
      testing::put_half(root_ / "base", false);
      testing::put_half(root_ / "aligned", true);
    }
    comm_.barrier();
    job_.base = root_ / "base";
    job_.aligned = root_ / "aligned";
    job_.output = root_ / "out";
    job_.run.memory = std::uint64_t{1} << 30;
  }
  ~TaskTest() override { comm_.barrier(); }

  ExitCode run() {
    forget_stop();  // what is wrong with the data asks all ranks to stop
    return harden(comm_, job_, Log());
  }

  /// Every entry is the dense one, rounded to BF16; a few may be rounded to the other side.
  void expect_result() {
    comm_.barrier();
    const Checkpoint result = open_checkpoint(job_.output);
    for (const testing::Tensor& tensor : testing::tensors_of_the_pair) {
      const std::vector<double> expected = testing::hardened_entries(tensor, job_.solve.k, job_.coef);
      const std::vector<double> found = testing::stored_entries(result, tensor.name);
      ASSERT_EQ(found.size(), expected.size()) << tensor.name;
      std::size_t beyond = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double off = std::abs(found[i] - expected[i]);
        EXPECT_LE(off, 0.51 * ulp(DType::BF16, expected[i]) + 1e-6) << tensor.name << " entry " << i;
        beyond += off > 0.5 * ulp(DType::BF16, expected[i]) + 1e-9 ? 1 : 0;
      }
      EXPECT_LE(beyond, found.size() / 200 + 1) << tensor.name;
    }
  }
  void change(const fs::path& file, std::uint64_t at) {
    comm_.barrier();
    if (comm_.is_root()) {
      File opened = File::open_write(file);
      std::byte byte{};
      opened.read(at, std::span(&byte, 1));
      byte ^= std::byte{0x40};
      opened.write(at, std::span(&byte, 1));
    }
    comm_.barrier();
  }

  testing::Scratch scratch_;
  Comm comm_;
  fs::path root_;
  Job job_;
};

TEST_F(TaskTest, HardensAsTheDefinitionSays) {
  EXPECT_EQ(run(), ExitCode::done);
  expect_result();
  const auto report = nlohmann::ordered_json::parse(read_text(report_path(job_), 1 << 20));
  EXPECT_EQ(report_from_json(report).edited, 3);
  EXPECT_EQ(report["totals"]["ranks"], comm_.size());
}

TEST_F(TaskTest, FullRankAndTheGridAgree) {
  job_.solve.k = full_rank;
  EXPECT_EQ(run(), ExitCode::done);
  expect_result();
  job_.solve.k = 4;
  job_.run.grid = GridUse::always;
  job_.overwrite = true;
  EXPECT_EQ(run(), ExitCode::done);
  expect_result();
  job_.solve.k = full_rank;
  EXPECT_EQ(run(), ExitCode::done);
  expect_result();
}

TEST_F(TaskTest, WhatIsThereIsNotTouched) {
  EXPECT_EQ(run(), ExitCode::done);
  EXPECT_EQ(run(), ExitCode::done) << "it was finished already";
  job_.solve.k = 4;
  testing::expect_error(ExitCode::bad_input, [&] { run(); }, {"out", "exists already"});
  job_.solve.k = 6;
  job_.output = root_ / "aligned";
  testing::expect_error(ExitCode::bad_input, [&] { run(); }, {"are the same"});
}

TEST_F(TaskTest, WrongDataLeavesNothing) {
  const Checkpoint aligned = open_checkpoint(job_.aligned);
  const Extent& extent = aligned.tensors.front().extent;
  comm_.barrier();
  if (comm_.is_root()) {
    const std::vector<std::byte> nan{std::byte{0xC0}, std::byte{0x7F}};
    File::open_write(aligned.files[static_cast<std::size_t>(extent.file)]).write(extent.offset + 2, nan);
  }
  comm_.barrier();
  for (const GridUse grid : {GridUse::never, GridUse::always}) {
    job_.run.grid = grid;
    testing::expect_error(ExitCode::bad_input, [&] { run(); },
                          {aligned.tensors.front().name, "NaN", "index 1"});
    comm_.barrier();  // rank 0 removes what it has made
    const OutputPaths paths(job_.output);
    EXPECT_FALSE(fs::exists(paths.partial) || fs::exists(paths.journal) || fs::exists(paths.output));
    comm_.barrier();
  }
}

TEST_F(TaskTest, VerifySeesEveryKindOfFault) {
  EXPECT_EQ(run(), ExitCode::done);
  const auto check = [&] { return verify(comm_, {job_, {}, 0}, Log()); };
  EXPECT_EQ(check(), ExitCode::done);
  const Checkpoint result = open_checkpoint(job_.output);
  for (const TensorInfo& tensor : result.tensors) {  // edited and copied ones
    const fs::path file = result.files[static_cast<std::size_t>(tensor.extent.file)];
    const std::uint64_t high_byte = tensor.extent.offset + 2 * (tensor.extent.bytes / 4) + 1;
    change(file, high_byte);
    EXPECT_EQ(check(), ExitCode::not_certified) << tensor.name;
    change(file, high_byte);
  }
  change(job_.output / "config.json", 5);
  EXPECT_EQ(check(), ExitCode::not_certified);
  change(job_.output / "config.json", 5);
  EXPECT_EQ(check(), ExitCode::done);
  job_.coef = 1.0;
  EXPECT_EQ(check(), ExitCode::not_certified) << "another coef";
}

TEST_F(TaskTest, PlanOfVerifyCountsWhatIsRead) {
  EXPECT_EQ(run(), ExitCode::done);
  const Forecast forecast = plan_verify({job_, {}, 0}, 2);
  ASSERT_EQ(forecast.ranks.size(), 2U);
  std::uint64_t entries = 0;
  for (const testing::Tensor& tensor : testing::tensors_of_the_pair) {
    if (tensor.shape.size() > 1) entries += testing::entries(tensor, false).size();
  }
  EXPECT_GE(forecast.bytes_read, 3 * 2 * entries);  // both models and the result, BF16
  EXPECT_LE(forecast.bytes_read, 3 * 2 * entries + 4096);
}

}  // namespace
}  // namespace lox
