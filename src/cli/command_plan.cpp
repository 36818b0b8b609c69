// SPDX-License-Identifier: MIT
#include "lox/base/buffer.hpp"
#include "lox/cli/job_options.hpp"
#include "lox/cli/other_plans.hpp"
#include "lox/cli/tell_planned.hpp"
#include "lox/task/harden.hpp"

#include <algorithm>

namespace po = boost::program_options;

namespace lox {

ExitCode run_plan(const Arguments& arguments) {
  keep_freed_memory();  // tables of many tensors are made of many small pieces
  if (const auto other = plan_of_other_task(arguments)) return *other;
  if (std::ranges::find(arguments, "--as-adapter") != arguments.end()) {
    fail(
        ExitCode::usage,
        "--as-adapter needs no plan: one rank hardens the adapter in seconds, with the memory of one pair of "
        "its factors in double; run 'lox harden --as-adapter' itself");
  }
  Options options("plan", "--base B --aligned A --output O [options]",
                  "Shows what harden would do with the same options, from headers only: which\n"
                  "matrices one rank solves and which all of them together, memory, bytes, disk\n"
                  "and time. Refuses what harden would refuse. 'lox plan factor', 'lox plan apply',\n"
                  "'lox plan convert', 'lox plan verify' and 'lox plan synth' tell what these\n"
                  "commands would cost.",
                  "  lox plan --base base --aligned aligned --output hardened --ranks 8,16,32");
  JobOptions job;
  job.add_to(options);
  PlanOptions plan(true);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  job.finish();
  plan.finish();
  const Planned planned = plan_harden(job.job, plan.request(job.job.run.memory), Log(Log::Level::warnings));
  return tell_planned(planned, plan, options, values, job.job.output, true);
}

}  // namespace lox
