// SPDX-License-Identifier: MIT
#include "lox/base/stop.hpp"

#include <chrono>
#include <csignal>

#include <gtest/gtest.h>

namespace lox {
namespace {

double from_now(double seconds) {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count() + seconds;
}

class StopTest : public ::testing::Test {
 protected:
  StopTest() {
    catch_stop_signals();
    forget_stop();
  }
  ~StopTest() override {
    forget_stop();
    for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM}) std::signal(signal, SIG_DFL);
  }
};

TEST_F(StopTest, EachSignalIsMoreUrgent) {
  EXPECT_EQ(stop_urgency(), 0);
  std::raise(SIGUSR1);
  EXPECT_EQ(stop_urgency(), 1);
  std::raise(SIGTERM);
  EXPECT_EQ(stop_urgency(), 2);
  forget_stop();
  EXPECT_EQ(stop_urgency(), 0);
}

TEST_F(StopTest, OneSignalMayBeRepeated) {
  for (int i = 0; i < 5; ++i) std::raise(SIGUSR2);
  EXPECT_EQ(stop_urgency(), 1);
  std::raise(SIGUSR1);
  EXPECT_EQ(stop_urgency(), 2);
}

TEST_F(StopTest, ARequestNeverLowersTheUrgency) {
  request_stop(2);
  request_stop(1);
  EXPECT_EQ(stop_urgency(), 2);
}

TEST_F(StopTest, TheDeadlineLeavesTimeForAnItem) {
  EXPECT_EQ(stop_urgency(), 0) << "without one";
  set_deadline(from_now(60));
  EXPECT_EQ(stop_urgency(), 0);
  note_item_seconds(20);
  note_item_seconds(1);
  EXPECT_EQ(stop_urgency(), 0) << "1.5 x 20 s and 10 s to tidy up fit into 60 s";
  set_deadline(from_now(38));
  EXPECT_EQ(stop_urgency(), 1);
  set_deadline(from_now(3));
  EXPECT_EQ(stop_urgency(), 2);
  set_deadline(from_now(3600));
  EXPECT_EQ(stop_urgency(), 2) << "a wish stays";
}

TEST_F(StopTest, ADeadlineInThePastIsUrgent) {
  set_deadline(from_now(-10));
  EXPECT_EQ(stop_urgency(), 2);
}

}  // namespace
}  // namespace lox
