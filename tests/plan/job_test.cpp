// SPDX-License-Identifier: MIT
#include "lox/plan/job.hpp"

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

}  // namespace
}  // namespace lox
