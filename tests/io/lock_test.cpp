// SPDX-License-Identifier: MIT
#include "lox/io/lock.hpp"

#include <array>
#include <csignal>
#include <cstdlib>
#include <sys/wait.h>
#include <unistd.h>

#include "io/models.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

using testing::Scratch;

TEST(Lock, SecondHolderIsRefusedAndTheFirstNamed) {
  const Scratch scratch;
  ::setenv("SLURM_JOB_ID", "4711", 1);
  const OutputLock first(scratch / "lock");
  ::unsetenv("SLURM_JOB_ID");
  std::array<char, 256> host{};
  ASSERT_EQ(::gethostname(host.data(), host.size() - 1), 0);
  const std::string process = fmt::format("process {} on {}", ::getpid(), host.data());
  testing::expect_error(ExitCode::bad_input, [&] { const OutputLock second(scratch / "lock"); },
                        {"another job is writing this output", process, "Slurm job 4711", "since 2"});
  ASSERT_TRUE(OutputLock::holder(scratch / "lock").has_value());
  EXPECT_NE(OutputLock::holder(scratch / "lock")->find(process), std::string::npos);
}

TEST(Lock, FreeAfterItsHolder) {
  const Scratch scratch;
  EXPECT_EQ(OutputLock::holder(scratch / "lock"), std::nullopt);
  { const OutputLock first(scratch / "lock"); }
  EXPECT_EQ(OutputLock::holder(scratch / "lock"), std::nullopt);
  const OutputLock second(scratch / "lock");
}

/// The file that a killed process leaves is no obstacle.
TEST(Lock, OfAKilledProcessIsTaken) {
  const Scratch scratch;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const OutputLock lock(scratch / "lock");
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_NE(testing::get(scratch / "lock").find(std::to_string(child)), std::string::npos);
  EXPECT_EQ(OutputLock::holder(scratch / "lock"), std::nullopt);
  const OutputLock mine(scratch / "lock");
  EXPECT_NE(testing::get(scratch / "lock").find(std::to_string(::getpid())), std::string::npos);
  EXPECT_EQ(testing::get(scratch / "lock").find(fmt::format("{},", child)), std::string::npos)
      << "two texts in one lock";
}

TEST(Lock, BetweenProcesses) {
  const Scratch scratch;
  const OutputLock mine(scratch / "lock");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      const OutputLock theirs(scratch / "lock");
      ::_exit(0);
    } catch (const Error& error) {
      ::_exit(static_cast<int>(error.code()));
    }
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::bad_input));
}

TEST(Lock, WithAnOddTextIsStillALock) {
  for (const std::string& text : {std::string(), std::string("garbage"), std::string("[1]"),
                                  std::string("{}"), std::string("{\"pid\":[1,{}],\"host\":\"a\\nb\"}")}) {
    const Scratch scratch;
    const OutputLock first(scratch / "lock");
    testing::put(scratch / "lock", text);
    testing::expect_error(ExitCode::bad_input, [&] { const OutputLock second(scratch / "lock"); },
                          {"another job"});
  }
}

}  // namespace
}  // namespace lox
