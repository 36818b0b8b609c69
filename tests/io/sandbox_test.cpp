// SPDX-License-Identifier: MIT
#include "lox/io/sandbox.hpp"

#include "lox/base/error.hpp"
#include "lox/base/random.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <map>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;
using testing::Scratch;

constexpr const char* word = "--sandbox-test";

/// Descriptors that are open, and where they lead.
std::string open_files() {
  std::string text;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const std::string target = fs::read_symlink(entry.path(), error).string();
    if (!target.starts_with("/proc/"))
      text += entry.path().filename().string() + "=" + target.substr(0, target.find(':')) + " ";
  }
  return text;
}

std::string take_memory() {
  std::size_t bytes = 0;
  for (std::vector<std::string> blocks; bytes < std::size_t{1} << 30; bytes += std::size_t{1} << 24)
    blocks.emplace_back(std::size_t{1} << 24, 'x');
  return std::to_string(bytes);
}

std::string spin() {
  std::uint64_t value = 1;
  while (value != 0) value = mix64(value) | 1;
  return "";
}

std::string core_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_CORE, &limit);
  return std::to_string(limit.rlim_max);
}

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "unset" : value;
}

/// A process that kills the one that started it, and shows that it is still there.
std::string outlive_parent() {
  ::kill(::getppid(), SIGKILL);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  testing::put(variable("LOX_SANDBOX_TEST"), "");
  return "";
}

std::string be_parent() {
  ::unsetenv("LOX_IN_SANDBOX");
  return run_in_sandbox(word, "child", "");
}

std::string raise(int signal) {
  std::raise(signal);
  return "survived";
}

/// What the processes of these tests can do, by name.
const std::map<std::string, std::function<std::string()>>& works() {
  static const std::map<std::string, std::function<std::string()>> table{
      {"nothing", [] { return std::string(); }},
      {"nul", [] { return std::string("a\0b.\n", 5); }},
      {"long", [] { return std::string(3'000'000, 'x'); }},
      {"refuse", []() -> std::string { fail(ExitCode::bad_input, "no good 3"); }},
      {"again", [] { return run_in_sandbox(word, "nothing", "it broke"); }},
      {"parent", be_parent},
      {"child", outlive_parent},
      {"segv", [] { return raise(SIGSEGV); }},
      {"abort", []() -> std::string { std::abort(); }},
      {"term", [] { return raise(SIGTERM) + raise(SIGUSR1) + raise(SIGUSR2); }},
      {"exit", []() -> std::string { ::_exit(0); }},
      {"spin", spin},
      {"memory", take_memory},
      {"files", open_files},
      {"core", core_limit},
      {"threads", [] { return variable("OMP_NUM_THREADS") + " " + variable("LD_BIND_NOW"); }},
      {"inherited", [] { return variable("LOX_SANDBOX_TEST"); }},
  };
  return table;
}

/// The processes that run_in_sandbox starts are this program, which ends here then, before its main.
[[gnu::constructor]] void answer_before_main(int argc, char** argv) {
  const auto call = sandbox_call(word, argc, argv);
  if (!call) return;
  const SandboxLimits limits{1, std::uint64_t{1} << 29};
  ::_exit(answer_sandbox_call(*call, limits, [&] {
    const auto work = works().find(call->argument);
    return work == works().end() ? call->argument : work->second();
  }));
}

std::string run(const std::string& work) {
  return run_in_sandbox(word, work, "it broke");
}

void expect_broken(const std::string& work) {
  SCOPED_TRACE(work);
  expect_error(ExitCode::bad_input, [&] { run(work); }, {"it broke"});
}

TEST(Sandbox, AnswersTheResult) {
  EXPECT_EQ(run("nothing"), "");
  EXPECT_EQ(run("nul"), std::string("a\0b.\n", 5));
  EXPECT_EQ(run("long").size(), 3'000'000U);
}

TEST(Sandbox, AnswersTheError) {
  expect_error(ExitCode::bad_input, [] { run("refuse"); }, {"no good 3"});
}

TEST(Sandbox, ArgumentsAreAnyBytes) {
  std::string all;
  for (int byte = 1; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(run(all), all);
  EXPECT_EQ(run(""), "");
  EXPECT_EQ(run("-x"), "-x");
}

TEST(Sandbox, SurvivesWhatWouldEndTheProgram) {
  for (const char* const work : {"segv", "abort", "exit", "spin"}) expect_broken(work);
}

#ifndef __SANITIZE_ADDRESS__
TEST(Sandbox, MemoryIsLimited) {
  expect_broken("memory");
}
#endif

TEST(Sandbox, InheritsNoOpenFile) {
  const int descriptor = ::open("/dev/zero", O_RDONLY);  // without O_CLOEXEC
  EXPECT_EQ(run("files").find("/dev/zero"), std::string::npos);
  EXPECT_NE(run("files").find("3=pipe"), std::string::npos);
  ::close(descriptor);
}

TEST(Sandbox, InheritsTheEnvironmentButForWhatMakesItSlow) {
  ::setenv("LOX_SANDBOX_TEST", "a\xff", 1);
  ::setenv("LD_BIND_NOW", "1", 1);
  EXPECT_EQ(run("inherited"), "a\xff");
  EXPECT_EQ(run("threads"), "1 unset");
  ::unsetenv("LD_BIND_NOW");
  ::unsetenv("LOX_SANDBOX_TEST");
}

TEST(Sandbox, SignalsToTheJobAndCoresAreOff) {
  EXPECT_EQ(run("term"), "survivedsurvivedsurvived");
  EXPECT_EQ(run("core"), "0");
}

TEST(Sandbox, DoesNotNest) {
  expect_error(ExitCode::internal, [] { run("again"); }, {word});
}

TEST(Sandbox, DiesWithItsParent) {
  const Scratch scratch;
  ::setenv("LOX_SANDBOX_TEST", (scratch / "alive").c_str(), 1);
  expect_broken("parent");
  ::unsetenv("LOX_SANDBOX_TEST");
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_FALSE(fs::exists(scratch / "alive"));
}

TEST(Sandbox, DoesNothingForAnotherParent) {
  bool worked = false;
  EXPECT_NE(answer_sandbox_call({1, "x"}, {1, 1}, [&] { return worked = true, std::string(); }), 0);
  ::prctl(PR_SET_PDEATHSIG, 0);
  EXPECT_FALSE(worked);
}

TEST(Sandbox, LimitsFollowTheBytesOnDisk) {
  const Scratch scratch;
  const fs::path file = scratch / "x";
  EXPECT_EQ(bytes_on_disk(file), 0U);
  testing::put(file, std::string(std::size_t{1} << 20, 'x'));
  File::open_write(file).sync();
  const std::uint64_t before = bytes_on_disk(file);
  EXPECT_EQ(before, std::uint64_t{1} << 20);
  fs::resize_file(file, std::uintmax_t{1} << 40);
  EXPECT_LE(bytes_on_disk(file), 2 * before);
}

TEST(Sandbox, LimitsEnd) {
  EXPECT_EQ(sandbox_limits(0).seconds, 2U);
  EXPECT_EQ(sandbox_limits(0).bytes, std::uint64_t{1} << 30);
  EXPECT_EQ(sandbox_limits(10 << 20).seconds, 12U);
  EXPECT_EQ(sandbox_limits(10 << 20).bytes, (std::uint64_t{1} << 30) + 64 * (10 << 20));
  EXPECT_EQ(sandbox_limits(UINT64_MAX).seconds, 600U);
  EXPECT_EQ(sandbox_limits(UINT64_MAX).bytes, std::uint64_t{16} << 30);
}

}  // namespace
}  // namespace lox
