// SPDX-License-Identifier: MIT
#include "lox/task/job_identity.hpp"

#include "lox/io/identity.hpp"
#include "lox/plan/job.hpp"

#include <gtest/gtest.h>

namespace lox {
namespace {

using nlohmann::json;

TEST(JobIdentity, HoldsOnlyWhatIsNotByDefault) {
  Job job;
  EXPECT_EQ(changed_parameters(job_parameters(job)).dump(), "{}")
      << "a new parameter, or another default: see parameters_by_default()";
  job.solve.k = 4;
  job.selection.exclude = {"lm_head"};
  EXPECT_EQ(changed_parameters(job_parameters(job)).dump(), R"({"exclude":["lm_head"],"k":4})");
}

TEST(JobIdentity, EveryParameterHasAnEntry) {
  const json parameters = job_parameters(Job{});
  for (const auto& [name, value] : parameters.items()) {
    EXPECT_TRUE(parameters_by_default().contains(name)) << name;
  }
}

/// As a later version sees an output that this one left unfinished.
TEST(JobIdentity, ANewParameterChangesOnlyJobsThatUseIt) {
  const json before = changed_parameters(job_parameters(Job{}));
  json defaults = parameters_by_default();
  defaults["rounding"] = "nearest";
  json later = job_parameters(Job{});
  later["rounding"] = "nearest";
  EXPECT_EQ(changed_parameters(later, defaults), before);
  later["rounding"] = "stochastic";
  EXPECT_EQ(first_difference(changed_parameters(later, defaults), before, "job"),
            "job.rounding is \"stochastic\" now, but was its default");
  EXPECT_EQ(first_difference(before, changed_parameters(later, defaults), "job"),
            "job.rounding is its default now, but was \"stochastic\"");
}

/// Another default asks for other numbers: an old unfinished output is not gone on with.
TEST(JobIdentity, AnotherDefaultIsAnotherJob) {
  json later = job_parameters(Job{});
  later["k"] = 8;
  EXPECT_EQ(changed_parameters(later).dump(), R"({"k":8})");
}

/// What stands in journals on disk.
TEST(JobIdentity, ItsFormStays) {
  Job job;
  job.coef = 0.5;
  const Checkpoint model;
  const json identity =
      identity_of_job("harden", job_parameters(job), {{"base", &model}, {"aligned", &model}});
  EXPECT_EQ(identity["version"], 1);
  EXPECT_EQ(identity["task"], "harden");
  EXPECT_EQ(identity["job"].dump(), R"({"coef":0.5})");
  EXPECT_TRUE(identity.contains("base") && identity.contains("aligned"));
  EXPECT_EQ(identity.size(), 5U);
}

}  // namespace
}  // namespace lox
