// SPDX-License-Identifier: MIT
#include "lox/io/apart.hpp"

#include "lox/base/random.hpp"

#include <csignal>
#include <cstdlib>
#include <unistd.h>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;

std::string apart(const std::function<std::string()>& work) {
  return run_apart(work, 1, 1 << 30, "it broke");
}

TEST(Apart, TellsTheResult) {
  EXPECT_EQ(apart([] { return std::string(); }), "");
  EXPECT_EQ(apart([] { return std::string("a\0b.\n", 5); }), std::string("a\0b.\n", 5));
  EXPECT_EQ(apart([] { return std::string(3'000'000, 'x'); }).size(), 3'000'000U);
}

TEST(Apart, TellsTheError) {
  expect_error(ExitCode::bad_input,
               [] { apart([]() -> std::string { fail(ExitCode::bad_input, "no good 3"); }); }, {"no good 3"});
}

TEST(Apart, SurvivesWhatWouldEndTheProgram) {
  expect_error(ExitCode::bad_input,
               [] {
                 apart([]() -> std::string {
                   std::raise(SIGSEGV);
                   return "";
                 });
               },
               {"it broke"});
  expect_error(ExitCode::bad_input, [] { apart([]() -> std::string { std::abort(); }); }, {"it broke"});
  expect_error(ExitCode::bad_input, [] { apart([]() -> std::string { ::_exit(0); }); }, {"it broke"});
  expect_error(ExitCode::bad_input,
               [] {
                 apart([]() -> std::string {
                   std::uint64_t value = 1;
                   while (value != 0) value = mix64(value) | 1;
                   return "";
                 });
               },
               {"it broke"});
}

}  // namespace
}  // namespace lox
