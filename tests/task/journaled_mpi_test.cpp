// SPDX-License-Identifier: MIT
#include "lox/base/error.hpp"
#include "lox/base/stop.hpp"
#include "lox/io/output_place.hpp"
#include "lox/report/json.hpp"
#include "lox/run/row_reader.hpp"
#include "lox/run/target.hpp"
#include "lox/task/journaled.hpp"
#include "lox/task/session.hpp"

#include <deque>
#include <mutex>

#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include "task/models.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// Steps that copy tensors to all outputs, and fail or stop where a test says so.
class CopySteps final : public LocalSteps {
 public:
  CopySteps(const Checkpoint& model, JournaledTask& task, std::function<void(const std::string&)> before)
      : model_(model), source_(model, FileStorage::Access::read), task_(task), before_(std::move(before)) {
    for (std::size_t t = 0; t < task.tables().size(); ++t) {
      storages_.emplace_back(task.tables()[t], FileStorage::Access::write);
      targets_.emplace_back(static_cast<int>(t), task.tables()[t], storages_.back(), Blend{});
      all_.push_back(&targets_.back());
    }
  }
  std::uint64_t memory(const Item& item) const override { return item.bytes; }
  void read(Parcel&) override {}
  bool solve(Parcel&) override { return true; }
  void write(Parcel& parcel) override {
    const TensorInfo& tensor = model_.tensors[static_cast<std::size_t>(parcel.item.matrix.tensors[0])];
    if (before_) before_(tensor.name);
    parcel.record.key = {tensor.name, 0, Action::copy, tensor.elements()};
    const auto bytes = [&](std::uint64_t first, std::span<std::byte> to) { source_.read(tensor, first, to); };
    copy_tensor(parcel.item, bytes, all_, parcel.record);
    done.push_back(tensor.name);
  }
  void commit(std::vector<Record>& records) override {
    for (Target* target : all_) target->sync();
    task_.journal().append(records);
  }
  std::vector<std::string> done;

 private:
  const Checkpoint& model_;
  FileStorage source_;
  JournaledTask& task_;
  std::function<void(const std::string&)> before_;
  std::deque<FileStorage> storages_;
  std::deque<Target> targets_;
  std::vector<Target*> all_;
};

constexpr int tensors = 24;  // more than a few ranks have in hand at once

/// A model of small tensors, each with its own entries.
void put_model(const fs::path& path) {
  Checkpoint like;
  for (int i = 0; i < tensors; ++i) {
    TensorInfo info{"t" + std::to_string(i), DType::F32, {10, 10 + i}, {}, ""};
    info.extent.bytes = static_cast<std::uint64_t>(info.elements()) * 4;
    like.tensors.push_back(info);
  }
  const Checkpoint made = create_checkpoint(like, path, Format::safetensors_file);
  FileStorage storage(made, FileStorage::Access::write);
  for (std::size_t i = 0; i < made.tensors.size(); ++i) {
    const std::vector<float> values(static_cast<std::size_t>(made.tensors[i].elements()),
                                    static_cast<float>(i + 1));
    storage.write(made.tensors[i].extent, 0, std::as_bytes(std::span(values)));
  }
}

/// A task that copies a model to two outputs, on any number of ranks.
class JournaledTest : public ::testing::Test {
 protected:
  JournaledTest() : root_(comm_.broadcast(scratch_.path().string())) {
    if (comm_.is_root()) put_model(root_ / "in.safetensors");
    comm_.barrier();
    model_ = open_checkpoint(root_ / "in.safetensors");
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      Item item;
      item.matrix.tensors = {static_cast<int>(i)};
      item.bytes = model_.tensors[i].extent.bytes;
      item.dtype = model_.tensors[i].dtype;
      item.seconds = 1;
      plan_.items.push_back(item);
    }
    deal(plan_.items, comm_.size());
  }
  ~JournaledTest() override { comm_.barrier(); }

  JournaledOutputs asked() {
    JournaledOutputs outputs;
    outputs.task = "copy";
    outputs.parameters = {{"twice", true}};
    outputs.inputs = {{"in", &model_}};
    outputs.places = {{out(0), root_ / "0.json"}, {out(1), root_ / "1.json"}};
    outputs.like = &model_;
    outputs.leading = &model_;
    return outputs;
  }
  fs::path out(int number) const { return root_ / ("out-" + std::to_string(number)); }

  /// One run. `before`: called with each tensor's name before it is copied. What this rank copied is in
  /// done_.
  ExitCode run(std::function<void(const std::string&)> before = {}, std::function<void()> at_the_end = {}) {
    forget_stop();
    comm_.barrier();
    done_.clear();
    JournaledTask task(comm_, Log(), asked(), plan_, {comm_.size(), std::uint64_t{1} << 30}, {});
    if (!task.begin()) return ExitCode::done;
    {
      CopySteps steps(model_, task, std::move(before));
      task.work(steps, nullptr);
      done_ = steps.done;
    }
    return task.conclude([&](std::vector<Record> records, const RunTotals& totals) {
      if (at_the_end) at_the_end();
      const Report report = make_report(reported_job(Job{}), model_, records, totals);
      return std::vector{report, report};
    });
  }
  std::int64_t copied() { return comm_.sum(static_cast<std::int64_t>(done_.size())); }

  void expect_finished() {
    comm_.barrier();
    for (const int number : {0, 1}) {
      const Checkpoint written = open_checkpoint(out(number));
      for (const TensorInfo& tensor : model_.tensors) {
        EXPECT_EQ(testing::stored_entries(written, tensor.name),
                  testing::stored_entries(model_, tensor.name));
      }
      EXPECT_EQ(read_report(root_ / (std::to_string(number) + ".json")).copied, tensors);
      expect_nothing_beside(number);
    }
    comm_.barrier();
  }
  void expect_nothing_beside(int number) {
    const OutputPaths paths(out(number));
    EXPECT_FALSE(fs::exists(paths.partial));
    EXPECT_FALSE(fs::exists(paths.journal));
  }
  void expect_nothing() {
    comm_.barrier();
    for (const int number : {0, 1}) {
      EXPECT_FALSE(fs::exists(out(number)));
      expect_nothing_beside(number);
    }
    comm_.barrier();
  }

  testing::Scratch scratch_;
  Comm comm_ = Comm::world();
  fs::path root_;
  Checkpoint model_;
  Plan plan_;
  std::vector<std::string> done_;
};

TEST_F(JournaledTest, WritesAllOutputsOnce) {
  EXPECT_EQ(run(), ExitCode::done);
  EXPECT_EQ(copied(), tensors);
  expect_finished();
  EXPECT_EQ(run(), ExitCode::done) << "it was finished already";
  EXPECT_EQ(copied(), 0);
  expect_finished();
}

TEST_F(JournaledTest, WhatWasStoppedGoesOn) {
  EXPECT_EQ(run([](const std::string&) { request_stop(1); }), ExitCode::stopped);
  const std::int64_t before = copied();
  EXPECT_LT(before, tensors);
  EXPECT_FALSE(fs::exists(out(0)));
  EXPECT_TRUE(fs::exists(OutputPaths(out(1)).partial));
  EXPECT_EQ(run(), ExitCode::done);
  EXPECT_EQ(before + copied(), tensors) << "nothing is done twice";
  expect_finished();
}

TEST_F(JournaledTest, WrongDataLeavesNothing) {
  const auto wrong = [](const std::string& name) {
    if (name == "t13") fail(ExitCode::bad_input, "t13: not a number");
  };
  testing::expect_error(ExitCode::bad_input, [&] { run(wrong); }, {"t13: not a number"});
  expect_nothing();
}

TEST_F(JournaledTest, WrongDataKeepsTheWorkOfEarlierRuns) {
  EXPECT_EQ(run([](const std::string&) { request_stop(1); }), ExitCode::stopped);
  const std::int64_t before = copied();
  testing::expect_error(
      ExitCode::bad_input,
      [&] { run([](const std::string& name) { fail(ExitCode::bad_input, "{}: wrong", name); }); }, {"wrong"});
  EXPECT_EQ(run(), ExitCode::done);
  EXPECT_LE(copied(), tensors - before);
  expect_finished();
}

/// What only the whole can tell, as that two models are the same, is found after all items.
TEST_F(JournaledTest, RefusedAtTheEndLeavesNothing) {
  testing::expect_error(ExitCode::bad_input,
                        [&] { run({}, [] { fail(ExitCode::bad_input, "all of it is odd"); }); },
                        {"all of it is odd"});
  expect_nothing();
}

TEST_F(JournaledTest, AChangedInputIsFoundBeforeAnythingGetsItsName) {
  const auto touch = [&] {
    const fs::path file = model_.files.front();
    fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(3));
  };
  testing::expect_error(ExitCode::io,
                        [&] {
                          run([&, first = true](const std::string&) mutable {
                            if (first && comm_.is_root()) touch();
                            first = false;
                          });
                        },
                        {"in", "changed"});
  EXPECT_FALSE(fs::exists(out(0)));
  EXPECT_FALSE(fs::exists(out(1)));
}

/// Of two outputs that were finished together, one was taken away.
TEST_F(JournaledTest, HalfOfItsOutputsIsNotFinished) {
  EXPECT_EQ(run(), ExitCode::done);
  comm_.barrier();
  if (comm_.is_root()) fs::remove_all(out(1));
  comm_.barrier();
  EXPECT_ANY_THROW(run());
  comm_.barrier();
  EXPECT_TRUE(fs::exists(out(0))) << "what is finished stays";
}

}  // namespace
}  // namespace lox
