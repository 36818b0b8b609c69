// SPDX-License-Identifier: MIT
#include "lox/cli/other_plans.hpp"

#include "lox/cli/forecast_text.hpp"
#include "lox/cli/task_options.hpp"
#include "lox/io/output.hpp"
#include "lox/task/convert.hpp"
#include "lox/task/verify.hpp"

namespace po = boost::program_options;

namespace lox {
namespace {

/// What each of these plans is asked besides, and how it is shown.
struct PlanOptions {
  int ranks = 1;
  bool json = false;

  void add_to(Options& options) {
    options.add({.name = "ranks", .value = "N", .brief = "to plan for"}, ranks);
    options.add({.name = "json", .brief = "for programs"}, json);
  }
  void check() const {
    if (ranks < 1) fail(ExitCode::usage, "--ranks {} is not a number of ranks", ranks);
  }
  void show(const Forecast& forecast) const {
    if (json) {
      fmt::print("{}\n", forecast_to_json(forecast, std::nullopt).dump(1));
    } else {
      print_forecast(forecast, std::nullopt);
    }
    std::fflush(stdout);
  }
};

ExitCode of_convert(const Arguments& arguments) {
  Options options("plan convert", "SRC DST [options]", "Tells what 'lox convert SRC DST' would cost.",
                  "  lox plan convert Llama-2-7b-hf llama-2-7b.h5 --ranks 8");
  ConvertArguments asked;
  asked.add_to(options);
  PlanOptions plan;
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  asked.finish(values);
  plan.check();
  const Forecast forecast = plan_convert(asked.source, asked.target, asked.overwrite, plan.ranks);
  plan.show(forecast);
  check_space(asked.target, forecast.disk);
  return ExitCode::done;
}

ExitCode of_verify(const Arguments& arguments) {
  Options options("plan verify", "--base B --aligned A --hardened H [options]",
                  "Tells what 'lox verify' would cost with the same options.",
                  "  lox plan verify --base base --aligned aligned --hardened hardened --ranks 8");
  PlanOptions plan;
  Job job;
  std::int64_t sample = 8;
  options.add({.name = "base", .value = "CKPT", .brief = "model before alignment"}, job.base);
  options.add({.name = "aligned", .value = "CKPT", .brief = "model after alignment"}, job.aligned);
  options.add({.name = "hardened", .value = "CKPT", .brief = "the result to check"}, job.output);
  options.add({.name = "include", .value = "REGEX", .brief = "as given to harden"}, job.selection.include);
  options.add({.name = "exclude", .value = "REGEX", .brief = "as given to harden"}, job.selection.exclude);
  options.add({.name = "sample", .value = "N", .brief = "matrices to check; 0: all"}, sample);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  plan.check();
  if (job.output.empty()) fail(ExitCode::usage, "--hardened is missing: the checkpoint to check");
  if (sample < 0) fail(ExitCode::usage, "--sample {} is negative", sample);
  check_job(job);
  plan.show(plan_verify(job, sample, plan.ranks));
  return ExitCode::done;
}

ExitCode of_synth(const Arguments& arguments) {
  Options options("plan synth", "DST --shape NAME [options]",
                  "Tells what 'lox synth' would cost with the same options.",
                  "  lox plan synth base --shape llama-3-70b --ranks 8");
  SynthArguments asked;
  asked.add_to(options);
  PlanOptions plan;
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  asked.finish(values);
  plan.check();
  const Forecast forecast = plan_synth(asked.synth, plan.ranks);
  plan.show(forecast);
  check_space(asked.synth.target, forecast.disk);
  return ExitCode::done;
}

}  // namespace

std::optional<ExitCode> plan_of_other_task(const Arguments& arguments) {
  if (arguments.empty()) return std::nullopt;
  const Arguments rest(arguments.begin() + 1, arguments.end());
  if (arguments[0] == "convert") return of_convert(rest);
  if (arguments[0] == "verify") return of_verify(rest);
  if (arguments[0] == "synth") return of_synth(rest);
  return std::nullopt;
}

}  // namespace lox
