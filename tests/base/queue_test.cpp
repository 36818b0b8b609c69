// SPDX-License-Identifier: MIT
#include "lox/base/queue.hpp"

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace lox {
namespace {

using namespace std::chrono_literals;
constexpr auto patience = 10s;  // for what must happen
constexpr auto moment = 20ms;   // for what must not

TEST(Queue, KeepsTheOrder) {
  Queue<int> queue(3);
  for (const int i : {1, 2, 3}) EXPECT_TRUE(queue.push(i));
  for (const int i : {1, 2, 3}) EXPECT_EQ(queue.pop(moment), i);
  EXPECT_EQ(queue.pop(moment), std::nullopt);
  EXPECT_FALSE(queue.finished());
}

TEST(Queue, AFullOneMakesTheGiverWait) {
  Queue<int> queue(1);
  EXPECT_TRUE(queue.push(1));
  std::atomic<bool> pushed = false;
  std::jthread giver([&] {
    EXPECT_TRUE(queue.push(2));
    pushed = true;
  });
  std::this_thread::sleep_for(moment);
  EXPECT_FALSE(pushed);
  EXPECT_EQ(queue.pop(patience), 1);
  EXPECT_EQ(queue.pop(patience), 2);
  giver.join();
  EXPECT_TRUE(pushed);
}

TEST(Queue, WhatWaitsWhenItClosesIsStillHandedOut) {
  Queue<int> queue(2);
  EXPECT_TRUE(queue.push(1));
  queue.close();
  EXPECT_FALSE(queue.push(2));
  EXPECT_FALSE(queue.finished());
  EXPECT_EQ(queue.pop(patience), 1);
  EXPECT_TRUE(queue.finished());
  EXPECT_EQ(queue.pop(patience), std::nullopt) << "and nobody waits";
}

TEST(Queue, CancelDropsWhatWaitsAndWakesBothSides) {
  Queue<int> full(1);
  Queue<int> empty(1);
  EXPECT_TRUE(full.push(1));
  std::jthread giver([&] { EXPECT_FALSE(full.push(2)); });
  std::jthread taker([&] { EXPECT_EQ(empty.pop(patience), std::nullopt); });
  std::this_thread::sleep_for(moment);
  const auto begin = std::chrono::steady_clock::now();
  full.cancel();
  empty.cancel();
  giver.join();
  taker.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, patience / 2);
  EXPECT_TRUE(full.finished());
}

/// Every value arrives once, in order, whatever the threads' speed.
TEST(Queue, ManyValuesBetweenTwoThreads) {
  constexpr int count = 5000;
  Queue<int> queue(3);
  std::jthread giver([&] {
    for (int i = 0; i < count; ++i) EXPECT_TRUE(queue.push(i));
    queue.close();
  });
  std::vector<int> taken;
  while (!queue.finished()) {
    if (const auto value = queue.pop(moment)) taken.push_back(*value);
  }
  std::vector<int> expected(count);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(taken, expected);
}

TEST(MemoryGate, HoldsTheSumBelowTheLimit) {
  MemoryGate gate(100);
  EXPECT_TRUE(gate.acquire(60));
  EXPECT_TRUE(gate.acquire(40));
  std::atomic<bool> granted = false;
  std::jthread third([&] {
    EXPECT_TRUE(gate.acquire(50));
    granted = true;
  });
  std::this_thread::sleep_for(moment);
  gate.release(40);
  std::this_thread::sleep_for(moment);
  EXPECT_FALSE(granted) << "60 and 50 are more than 100";
  gate.release(60);
  third.join();
  EXPECT_TRUE(granted);
}

TEST(MemoryGate, WhatNeverFitsIsGrantedAlone) {
  MemoryGate gate(100);
  EXPECT_TRUE(gate.acquire(500));
  std::atomic<bool> granted = false;
  std::jthread second([&] {
    EXPECT_TRUE(gate.acquire(1));
    granted = true;
  });
  std::this_thread::sleep_for(moment);
  EXPECT_FALSE(granted);
  gate.release(500);
  second.join();
  EXPECT_TRUE(granted);
}

TEST(MemoryGate, CloseRefusesWhoWaitsAndWhoComes) {
  MemoryGate gate(10);
  EXPECT_TRUE(gate.acquire(10));
  std::jthread waiting([&] { EXPECT_FALSE(gate.acquire(1)); });
  std::this_thread::sleep_for(moment);
  gate.close();
  waiting.join();
  gate.release(10);
  EXPECT_FALSE(gate.acquire(1));
}

}  // namespace
}  // namespace lox
