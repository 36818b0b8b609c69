// SPDX-License-Identifier: MIT
#include "lox/run/workspace.hpp"

#include "lox/io/convert.hpp"
#include "lox/plan/job.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/report.hpp"

#include <chrono>
#include <functional>
#include <unistd.h>

#include "run/models.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

using State = OutputStatus::State;

class WorkspaceTest : public ::testing::Test {
 protected:
  WorkspaceTest() {
    testing::put_model(scratch_ / "base.safetensors", 1);
    testing::put_model(scratch_ / "aligned.safetensors", 2);
    job_.base = scratch_ / "base.safetensors";
    job_.aligned = scratch_ / "aligned.safetensors";
    job_.output = scratch_ / "out.safetensors";
  }

  Workspace open() { return open(job_); }
  static Workspace open(const Job& job) {
    return open_workspace(job, open_checkpoint(job.base), open_checkpoint(job.aligned), 5);
  }
  fs::path journal() const { return Journal::directory(job_.output); }
  fs::path partial() const { return partial_path(job_.output); }

  /// What a job leaves that was killed after its first item.
  void leave_unfinished() {
    const Workspace workspace = open();
    Journal(journal(), 0).append({testing::edited("a")});
  }

  /// Expects that the job is refused, in words that hold `parts`, and everything stays as it is.
  void expect_refused(const Job& job, std::initializer_list<std::string_view> parts) {
    const std::string sign = testing::get(Journal::job_file(journal()));
    testing::expect_error(
        ExitCode::bad_input, [&] { open(job); }, parts);
    EXPECT_EQ(testing::get(Journal::job_file(journal())), sign);
    EXPECT_TRUE(fs::exists(partial()));
    EXPECT_EQ(Journal::load(journal()).size(), 1U);
  }

  testing::Scratch scratch_;
  Job job_;
};

TEST_F(WorkspaceTest, NewOneHasItsFullSize) {
  const Workspace workspace = open();
  EXPECT_FALSE(workspace.resumed);
  EXPECT_TRUE(workspace.finished.empty());
  EXPECT_EQ(fs::file_size(partial()), fs::file_size(job_.aligned));
  EXPECT_FALSE(fs::exists(job_.output));
  ASSERT_EQ(workspace.output.tensors.size(), 4U);
  const OutputStatus status = output_status(job_.output);
  EXPECT_EQ(status.state, State::unfinished);
  EXPECT_EQ(status.items, 5);
  EXPECT_EQ(status.items_finished, 0);
  EXPECT_NE(status.holder.find(std::to_string(::getpid())), std::string::npos);
}

TEST_F(WorkspaceTest, GoesOn) {
  leave_unfinished();
  const Workspace workspace = open();
  EXPECT_TRUE(workspace.resumed);
  ASSERT_EQ(workspace.finished.size(), 1U);
  EXPECT_EQ(workspace.finished[0].name, "a");
  const Checkpoint aligned = open_checkpoint(job_.aligned);
  ASSERT_EQ(workspace.output.tensors.size(), aligned.tensors.size());
  for (std::size_t i = 0; i < aligned.tensors.size(); ++i) {
    EXPECT_EQ(workspace.output.tensors[i].name, aligned.tensors[i].name);
  }
}

TEST_F(WorkspaceTest, SecondJobIsRefused) {
  const Workspace first = open();
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"another job", std::to_string(::getpid())});
  Job overwriting = job_;
  overwriting.overwrite = true;
  testing::expect_error(ExitCode::bad_input, [&] { open(overwriting); }, {"another job"});
  EXPECT_TRUE(fs::exists(partial()));
}

TEST_F(WorkspaceTest, OtherParametersAreNamed) {
  leave_unfinished();
  const std::vector<std::pair<std::function<void(Job&)>, std::string>> changes{
      {[](Job& job) { job.k = 4; }, "job.k is 4 now, but was 6"},
      {[](Job& job) { job.coef = 0.5; }, "job.coef is 0.5 now, but was 1.25"},
      {[](Job& job) { job.svd = Method::exact; }, "job.svd is \"exact\" now, but was \"krylov\""},
      {[](Job& job) { job.tolerance = 1e-3; }, "job.tolerance is 0.001 now"},
      {[](Job& job) { job.seed = 3; }, "job.seed is 3 now, but was 0"},
      {[](Job& job) { job.include = {"x"}; }, "job.include is [\"x\"] now, but was []"},
      {[](Job& job) {
         job.exclude = {"a", "b"};
       },
       "job.exclude is [\"a\",\"b\"] now, but was []"}};
  for (const auto& [change, words] : changes) {
    Job other = job_;
    change(other);
    expect_refused(other, {"belongs to another job", words});
  }
}

TEST_F(WorkspaceTest, WhatDoesNotChangeTheResultMayDiffer) {
  leave_unfinished();
  Job other = job_;
  other.memory = std::uint64_t{1} << 33;
  other.grid = GridUse::never;
  other.time_limit = 100;
  other.recheck = true;
  other.report = scratch_ / "elsewhere.json";
  EXPECT_TRUE(open(other).resumed);
}

TEST_F(WorkspaceTest, OtherInputsAreNamed) {
  leave_unfinished();
  fs::last_write_time(job_.base, fs::last_write_time(job_.base) + std::chrono::seconds(1));
  expect_refused(job_, {"belongs to another job", "base.files", "modified"});
}

TEST_F(WorkspaceTest, OtherHeadersAreNamed) {
  leave_unfinished();
  const auto time = fs::last_write_time(job_.aligned);
  std::string bytes = testing::get(job_.aligned);
  bytes.replace(bytes.find("[4,6]"), 5, "[6,4]");  // the same size and time
  testing::put(job_.aligned, bytes);
  fs::last_write_time(job_.aligned, time);
  expect_refused(job_, {"belongs to another job", "aligned.headers"});
}

TEST_F(WorkspaceTest, OtherVersionOfTheJournalIsNamed) {
  leave_unfinished();
  nlohmann::json sign = nlohmann::json::parse(testing::get(Journal::job_file(journal())));
  sign["lox_journal"] = 99;
  testing::put(Journal::job_file(journal()), sign.dump());
  expect_refused(job_, {"lox_journal is 1 now, but was 99"});
}

TEST_F(WorkspaceTest, SignThatIsNoneIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("{}")}) {
    job_.overwrite = true;
    leave_unfinished();
    job_.overwrite = false;
    testing::put(Journal::job_file(journal()), text);
    expect_refused(job_, {"belongs to another job"});
  }
}

/// A crash while the skeleton was made: without the sign there is nothing to go on with.
TEST_F(WorkspaceTest, SkeletonWithoutItsSignIsMadeAnew) {
  leave_unfinished();
  fs::remove(Journal::job_file(journal()));
  testing::put(partial(), "half a skeleton");
  const Workspace workspace = open();
  EXPECT_FALSE(workspace.resumed);
  EXPECT_TRUE(workspace.finished.empty());
  EXPECT_EQ(fs::file_size(partial()), fs::file_size(job_.aligned));
}

TEST_F(WorkspaceTest, PartialOfNobodyIsNotTouched) {
  testing::put(partial(), "somebody's");
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"without a journal"});
  EXPECT_EQ(testing::get(partial()), "somebody's");
  EXPECT_FALSE(fs::exists(journal()));
}

TEST_F(WorkspaceTest, DamagedSkeletonIsRefused) {
  leave_unfinished();
  testing::put_model(scratch_ / "other.safetensors");
  std::string bytes = testing::get(partial());
  bytes.replace(bytes.find("\"norm\""), 6, "\"mron\"");
  testing::put(partial(), bytes);
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"has lost tensor 'norm'"});
}

TEST_F(WorkspaceTest, OverwriteThrowsTheOtherJobAway) {
  leave_unfinished();
  Job other = job_;
  other.k = 2;
  other.overwrite = true;
  const Workspace workspace = open(other);
  EXPECT_FALSE(workspace.resumed);
  EXPECT_TRUE(Journal::load(journal()).empty());
}

TEST_F(WorkspaceTest, ClosesAndLeavesOnlyOutputAndReport) {
  {
    const Workspace workspace = open();
    close_workspace(job_, {{"x", 1}});
  }
  EXPECT_TRUE(fs::exists(job_.output));
  EXPECT_TRUE(fs::exists(report_path(job_)));
  EXPECT_FALSE(fs::exists(partial()));
  EXPECT_FALSE(fs::exists(journal()));
  EXPECT_EQ(output_status(job_.output).state, State::finished);
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"exists already"});
}

/// A crash after the rename: the same job finds it finished, another one finds an output in its way.
TEST_F(WorkspaceTest, PublishedButNotCleanedUp) {
  leave_unfinished();
  fs::rename(partial(), job_.output);
  EXPECT_EQ(output_status(job_.output).state, State::finished);
  Job other = job_;
  other.k = 2;
  testing::expect_error(ExitCode::bad_input, [&] { open(other); }, {"exists already"});
  EXPECT_TRUE(open().published);
  remove_journal(job_);
  EXPECT_FALSE(fs::exists(journal()));
}

TEST_F(WorkspaceTest, DiscardLeavesNothing) {
  leave_unfinished();
  discard_workspace(job_.output);
  EXPECT_FALSE(fs::exists(partial()));
  EXPECT_FALSE(fs::exists(journal()));
  EXPECT_EQ(output_status(job_.output).state, State::absent);
}

TEST_F(WorkspaceTest, ChangedInputsAreNoticedAtTheEnd) {
  const Checkpoint base = open_checkpoint(job_.base);
  const Checkpoint aligned = open_checkpoint(job_.aligned);
  const nlohmann::json fingerprint = job_fingerprint(job_, base, aligned);
  EXPECT_NO_THROW(check_inputs_unchanged(fingerprint, base, aligned));
  fs::last_write_time(job_.aligned, fs::last_write_time(job_.aligned) + std::chrono::nanoseconds(1));
  testing::expect_error(ExitCode::io, [&] { check_inputs_unchanged(fingerprint, base, aligned); },
                        {"the aligned model was changed while lox ran", "aligned.files"});
  fs::remove(job_.base);
  testing::expect_error(ExitCode::io, [&] { check_inputs_unchanged(fingerprint, base, aligned); },
                        {"the base model vanished while lox ran"});
}

TEST_F(WorkspaceTest, StatusCountsEachItemOnce) {
  {
    const Workspace workspace = open();
    Journal(journal(), 0).append({testing::edited("a"), testing::edited("experts", 0)});
    Journal(journal(), 1).append({testing::edited("a"), testing::edited("experts", 1)});
  }
  const OutputStatus status = output_status(job_.output);
  EXPECT_EQ(status.items_finished, 3);
  EXPECT_EQ(status.bytes_finished, 3U * 48);
  EXPECT_TRUE(status.holder.empty());
}

}  // namespace
}  // namespace lox
