// SPDX-License-Identifier: MIT
#include "lox/plan/job.hpp"

#include "lox/plan/patterns.hpp"

#include <functional>
#include <vector>

#include "support/expect_error.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

Job good() {
  Job job;
  job.base = "base";
  job.aligned = "aligned";
  job.output = "out";
  return job;
}

TEST(Job, WhatDoesNotChangeTheResultMayDiffer) {
  Job other = good();
  other.run = {GridUse::never, std::uint64_t{1} << 33, 100.0, true};
  other.report = "elsewhere.json";
  other.overwrite = true;
  other.output = "another place";
  EXPECT_EQ(job_parameters(other), job_parameters(good()));
}

TEST(Job, WhatChangesTheResultIsAParameter) {
  const std::vector<std::function<void(Job&)>> changes{[](Job& job) { job.solve.k = 4; },
                                                       [](Job& job) { job.coef = 0.5; },
                                                       [](Job& job) { job.solve.svd = Method::exact; },
                                                       [](Job& job) { job.solve.tolerance = 1e-3; },
                                                       [](Job& job) { job.solve.proof = 0.25; },
                                                       [](Job& job) { job.solve.seed = 3; },
                                                       [](Job& job) { job.selection.include = {"x"}; },
                                                       [](Job& job) { job.selection.exclude = {"x"}; }};
  for (const auto& change : changes) {
    Job other = good();
    change(other);
    EXPECT_NE(job_parameters(other), job_parameters(good())) << job_parameters(other).dump();
  }
}

TEST(Job, NonsenseNamesTheOption) {
  const auto refused = [](const std::function<void(Job&)>& change, std::string_view option) {
    Job job = good();
    change(job);
    testing::expect_error(ExitCode::usage, [&] { check_job(job); }, {option});
  };
  check_job(good());
  refused([](Job& job) { job.base.clear(); }, "--base");
  refused([](Job& job) { job.output.clear(); }, "--output");
  refused([](Job& job) { job.solve.k = -1; }, "--k");
  refused([](Job& job) { job.coef = -0.5; }, "--coef");
  refused([](Job& job) { job.solve.tolerance = 0; }, "--tolerance");
  refused([](Job& job) { job.solve.proof = 1e9; }, "--proof");
  refused([](Job& job) { job.selection.include = {"("}; }, "--include");
  refused([](Job& job) { job.selection.exclude = {"a{99999}"}; }, "--exclude");
}

TEST(Patterns, MatchAnywhereAndExcludeWins) {
  const Patterns all(Selection{});
  EXPECT_TRUE(all.takes("anything"));
  const Patterns some(Selection{{"q_proj", "^lm_head\\.w"}, {"layers\\.1\\."}});
  EXPECT_TRUE(some.takes("layers.0.q_proj.weight"));
  EXPECT_FALSE(some.takes("layers.1.q_proj.weight"));
  EXPECT_TRUE(some.takes("lm_head.weight"));
  EXPECT_FALSE(some.takes("x.lm_head.weight"));
  EXPECT_FALSE(some.takes("layers.0.k_proj.weight"));
}

/// Words that take other engines the stack, or for ever.
TEST(Patterns, HostileWordsCostNothing) {
  const std::string name = std::string(400'000, 'a') + ".weight";
  EXPECT_TRUE(Patterns(Selection{{".*weight"}, {}}).takes(name));
  EXPECT_FALSE(Patterns(Selection{{"(a*)*b"}, {}}).takes(name));
  EXPECT_TRUE(Patterns(Selection{{std::string(900, '(') + "a" + std::string(900, ')')}, {}}).takes(name));
  for (const std::string& pattern : {std::string(20'000, '('), std::string("(x{1,99}){1,99}{1,99}{1,99}"),
                                     std::string("(q){1,77777777777777777777}"), std::string("(a)\\1"),
                                     std::string("a(?=b)"), std::string("\xff")}) {
    testing::expect_error(ExitCode::usage, [&] { Patterns(Selection{{pattern}, {}}); }, {"--include"});
  }
}

}  // namespace
}  // namespace lox
