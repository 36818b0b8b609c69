// SPDX-License-Identifier: MIT
#include "lox/run/local_pipeline.hpp"

#include "lox/base/error.hpp"
#include "lox/base/stop.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <dlfcn.h>
#include <functional>
#include <mutex>
#include <pthread.h>
#include <thread>

#include "support/expect_error.hpp"
#include <gtest/gtest.h>

namespace {

std::atomic<int> threads_left{-1};  ///< how many may still be started; negative: any number

}  // namespace

/// In place of the C library's: fails when no more threads may be started.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) noexcept {
  if (threads_left == 0) return EAGAIN;
  if (threads_left > 0) --threads_left;
  static const auto real = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return real(thread, attributes, start, argument);
}

namespace lox {
namespace {

/// A progress that says when to stop.
class FakeProgress final : public Progress {
 public:
  void update(Counts mine) override { last = mine; }
  int stop_urgency() const override { return urgency; }
  std::atomic<int> urgency{0};
  Counts last;
};

/// Steps that write down what is asked of them.
class FakeSteps final : public LocalSteps {
 public:
  std::uint64_t memory(const Item& item) const override { return local_cost(item).memory; }
  void read(Parcel& parcel) override {
    parcel.record.key = {name_of(parcel.item), 0, Action::edit, 1};
    note("read", parcel.item);
    reader = std::this_thread::get_id();
    if (on_read) on_read(parcel);
    const std::uint64_t now = in_flight += local_cost(parcel.item).memory;
    most_in_flight = std::max(most_in_flight.load(), now);
  }
  bool solve(Parcel& parcel) override {
    note("solve", parcel.item);
    const bool solved = !on_solve || on_solve(parcel);
    in_flight -= local_cost(parcel.item).memory;
    if (!solved) return false;
    parcel.edited.emplace_back(64);
    return true;
  }
  void write(Parcel& parcel) override {
    parcel.record.key = {name_of(parcel.item), 0, parcel.item.action, 1};
    note("write", parcel.item);
    writer = std::this_thread::get_id();
    if (on_write) on_write(parcel);
    parcel.record.timing.bytes_written = parcel.item.bytes;
  }
  void commit(std::vector<Record>& records) override {
    for (const Record& record : records) {
      const std::lock_guard lock(mutex);
      events.push_back("commit " + record.key.name);
    }
    if (on_commit) on_commit();
  }

  /// Events that begin with a word, in order.
  std::vector<std::string> of(const std::string& word) {
    const std::lock_guard lock(mutex);
    std::vector<std::string> found;
    for (const std::string& event : events) {
      if (event.starts_with(word + " ")) found.push_back(event.substr(word.size() + 1));
    }
    return found;
  }

  std::function<void(Parcel&)> on_read;
  std::function<bool(Parcel&)> on_solve;
  std::function<void(Parcel&)> on_write;
  std::function<void()> on_commit;
  std::vector<std::string> events;
  std::mutex mutex;
  std::thread::id reader;
  std::thread::id writer;
  std::atomic<std::uint64_t> in_flight{0};
  std::atomic<std::uint64_t> most_in_flight{0};

 private:
  static std::string name_of(const Item& item) { return std::to_string(item.matrix.tensors.at(0)); }
  void note(const char* word, const Item& item) {
    const std::lock_guard lock(mutex);
    events.push_back(std::string(word) + " " + name_of(item));
  }
};

Item matrix(int number, Index rows = 200) {
  Item item;
  item.matrix.tensors = {number, number};
  item.action = Action::edit;
  item.matrix.rows = rows;
  item.matrix.cols = 300;
  item.k = 6;
  item.bytes = 100;
  return item;
}

Item copy(int number) {
  Item item;
  item.matrix.tensors = {number, number};
  item.bytes = 1000;
  return item;
}

class LocalPipelineTest : public ::testing::Test {
 protected:
  std::vector<Record> run(const std::vector<Item>& items, std::uint64_t memory = std::uint64_t{1} << 40) {
    return LocalPipeline(steps_, memory).run(items, progress_, counts_, times_);
  }
  /// What is committed must have been written before, and nothing is committed twice.
  void expect_sound() {
    std::vector<std::string> written;
    std::vector<std::string> committed;
    for (const std::string& event : steps_.events) {
      if (event.starts_with("write ")) written.push_back(event.substr(6));
      if (!event.starts_with("commit ")) continue;
      const std::string name = event.substr(7);
      EXPECT_NE(std::find(written.begin(), written.end(), name), written.end()) << name;
      EXPECT_EQ(std::find(committed.begin(), committed.end(), name), committed.end()) << name;
      committed.push_back(name);
    }
  }
  FakeSteps steps_;
  FakeProgress progress_;
  Counts counts_;
  WorkTimes times_;
};

TEST_F(LocalPipelineTest, EveryItemGoesThroughEveryStepOnceAndInOrder) {
  std::vector<Item> items;
  std::vector<std::string> all;
  std::vector<std::string> edited;
  for (int i = 0; i < 20; ++i) {
    items.push_back(i % 3 == 0 ? copy(i) : matrix(i));
    all.push_back(std::to_string(i));
    if (i % 3 != 0) edited.push_back(std::to_string(i));
  }
  const std::vector<Record> records = run(items);
  EXPECT_EQ(steps_.of("read"), edited);  // copies are neither read nor solved: they are moved by the writer
  EXPECT_EQ(steps_.of("solve"), edited);
  EXPECT_EQ(steps_.of("write"), all);
  EXPECT_EQ(steps_.of("commit"), all);
  expect_sound();
  ASSERT_EQ(records.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(records[i].key.name, all[i]);
  EXPECT_EQ(counts_.items, 20);
  EXPECT_EQ(progress_.last.items, 20);
  EXPECT_EQ(counts_.bytes, 7U * 1000 + 13U * 100);
  EXPECT_NE(steps_.reader, std::this_thread::get_id());
  EXPECT_NE(steps_.writer, std::this_thread::get_id());
  EXPECT_NE(steps_.reader, steps_.writer);
}

TEST_F(LocalPipelineTest, NothingToDoIsDone) {
  EXPECT_TRUE(run({}).empty());
  EXPECT_TRUE(steps_.events.empty());
}

TEST_F(LocalPipelineTest, WorkingSetsStayBelowTheMemory) {
  const std::uint64_t one = local_cost(matrix(0)).memory;
  steps_.on_solve = [](Parcel&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    return true;
  };
  std::vector<Item> items;
  for (int i = 0; i < 12; ++i) items.push_back(matrix(i));
  EXPECT_EQ(run(items, 2 * one + one / 2).size(), 12U);
  EXPECT_EQ(steps_.most_in_flight, 2 * one);
  steps_.most_in_flight = 0;
  EXPECT_EQ(run(items, 1).size(), 12U);  // more than all there is: one at a time
  EXPECT_EQ(steps_.most_in_flight, one);
}

TEST_F(LocalPipelineTest, WhatFailsIsDoneAgainAtTheEndByTheExactMethod) {
  std::vector<Method> tried;
  steps_.on_solve = [&](Parcel& parcel) {
    if (parcel.item.matrix.tensors[0] != 1) return true;
    tried.push_back(parcel.item.method);
    return parcel.item.method == Method::exact;
  };
  EXPECT_EQ(run({matrix(0), matrix(1), matrix(2)}).size(), 3U);
  EXPECT_EQ(tried, (std::vector{Method::krylov, Method::exact}));
  EXPECT_EQ(steps_.of("commit"), (std::vector<std::string>{"0", "2", "1"}));
  expect_sound();
}

TEST_F(LocalPipelineTest, WithoutMemoryForTheExactMethodTheTensorIsNamed) {
  const Item big = matrix(7, 4000);
  steps_.on_solve = [](Parcel&) { return false; };
  testing::expect_error(ExitCode::not_certified, [&] { run({big}, local_cost(big).exact_memory - 1); },
                        {"tensor '7'", "--memory"});
}

TEST_F(LocalPipelineTest, UrgencyOneFinishesTheItemInHand) {
  steps_.on_solve = [&](Parcel& parcel) {
    if (parcel.item.matrix.tensors[0] == 2) progress_.urgency = 1;
    return true;
  };
  std::vector<Item> items;
  for (int i = 0; i < 50; ++i) items.push_back(matrix(i));
  EXPECT_EQ(run(items).size(), 3U);
  EXPECT_EQ(steps_.of("commit"), (std::vector<std::string>{"0", "1", "2"}));
  expect_sound();
}

TEST_F(LocalPipelineTest, StoppedDropsTheItemInHandAndKeepsTheOthers) {
  steps_.on_solve = [&](Parcel& parcel) {
    if (parcel.item.matrix.tensors[0] == 2) throw Stopped();
    return true;
  };
  EXPECT_EQ(run({matrix(0), matrix(1), matrix(2), matrix(3)}).size(), 2U);
  EXPECT_EQ(steps_.of("commit"), (std::vector<std::string>{"0", "1"}));
}

/// A failure in any step ends all threads at once and is thrown; nothing is vouched for that was not written.
TEST_F(LocalPipelineTest, AThreadThatCannotStartIsAnError) {
  for (const int possible : {0, 1}) {
    threads_left = possible;
    testing::expect_error(ExitCode::internal,
                          [&] {
                            run({matrix(0), matrix(1), matrix(2), matrix(3)});
                          },
                          {"cannot start a thread", "ulimit -u"});
    threads_left = -1;
    EXPECT_TRUE(steps_.of("solve").empty());
  }
}

TEST_F(LocalPipelineTest, AFailureInAnyStepIsThrown) {
  const auto fails = [](const Parcel& parcel, const char* where) {
    if (parcel.item.matrix.tensors[0] == 3) fail(ExitCode::io, "no {}", where);
  };
  std::vector<Item> items;
  for (int i = 0; i < 30; ++i) items.push_back(matrix(i));
  for (const std::string& where : {std::string("read"), std::string("solve"), std::string("write")}) {
    FakeSteps steps;
    if (where == "read") steps.on_read = [&](Parcel& parcel) { fails(parcel, "read"); };
    if (where == "write") steps.on_write = [&](Parcel& parcel) { fails(parcel, "write"); };
    if (where == "solve") {
      steps.on_solve = [&](Parcel& parcel) {
        fails(parcel, "solve");
        return true;
      };
    }
    testing::expect_error(ExitCode::io,
                          [&] { LocalPipeline(steps, 1 << 30).run(items, progress_, counts_, times_); },
                          {"no", where});
    EXPECT_LE(steps.of("write").size(), 4U) << where;
    for (const std::string& name : steps.of("commit")) EXPECT_LT(std::stoi(name), 3) << where;
  }
  counts_ = {};
  steps_.on_commit = [] { fail(ExitCode::io, "no commit"); };
  testing::expect_error(ExitCode::io, [&] { run(items); }, {"no commit"});
  EXPECT_EQ(counts_.items, 0) << "what could not be committed does not count";
}

}  // namespace
}  // namespace lox
