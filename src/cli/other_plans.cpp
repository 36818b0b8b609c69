// SPDX-License-Identifier: MIT
#include "lox/cli/other_plans.hpp"

#include "lox/cli/analyze_options.hpp"
#include "lox/cli/apply_options.hpp"
#include "lox/cli/forecast_text.hpp"
#include "lox/cli/task_options.hpp"
#include "lox/cli/tell_planned.hpp"
#include "lox/cli/verify_options.hpp"
#include "lox/task/convert.hpp"
#include "lox/task/factor.hpp"

namespace po = boost::program_options;

namespace lox {
namespace {

void show(const PlanOptions& plan, const Forecast& forecast, const fs::path& output) {
  if (plan.json()) {
    fmt::print("{}\n", forecast_to_json(forecast, output, std::nullopt).dump(1));
  } else {
    print_forecast(forecast, output);
  }
  std::fflush(stdout);
}

ExitCode of_convert(const Arguments& arguments) {
  Options options("plan convert", "SRC DST [options]", "Tells what 'lox convert SRC DST' would cost.",
                  "  lox plan convert Llama-2-7b-hf llama-2-7b.h5 --ranks 8");
  ConvertArguments asked;
  asked.add_to(options);
  PlanOptions plan(false);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  asked.finish(values);
  plan.finish();
  const Forecast forecast =
      plan_convert(asked.source, asked.target, asked.overwrite, plan.ranks(), plan.bandwidth());
  show(plan, forecast, asked.target);
  check_space({{asked.target, forecast.disk}});
  return ExitCode::done;
}

ExitCode of_verify(const Arguments& arguments) {
  Options options("plan verify", "--base B --aligned A --hardened H [options]",
                  "Tells what 'lox verify' would cost with the same options.",
                  "  lox plan verify --base base --aligned aligned --hardened hardened --ranks 8");
  PlanOptions plan(false);
  VerifyOptions verified;
  verified.add_to(options);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  plan.finish();
  verified.finish(values);
  show(plan, plan_verify(verified.asked, plan.ranks(), plan.bandwidth()), {});
  return ExitCode::done;
}

ExitCode of_synth(const Arguments& arguments) {
  Options options("plan synth", "DST --shape NAME [options]",
                  "Tells what 'lox synth' would cost with the same options.",
                  "  lox plan synth base --shape llama-3-70b --ranks 8");
  SynthArguments asked;
  asked.add_to(options);
  PlanOptions plan(false);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  asked.finish(values);
  plan.finish();
  const Forecast forecast = plan_synth(asked.synth, plan.ranks(), plan.bandwidth());
  show(plan, forecast, asked.synth.target);
  check_space({{asked.synth.target, forecast.disk}});
  return ExitCode::done;
}

ExitCode of_factor(const Arguments& arguments) {
  Options options("plan factor", "--base B --aligned A --output F [options]",
                  "Tells what 'lox factor' would cost with the same options.",
                  "  lox plan factor --base base --aligned aligned --k 64 --output factors.h5 --ranks 8");
  JobOptions job(JobOptions::Task::factor);
  job.add_to(options);
  PlanOptions plan(true);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  job.finish();
  plan.finish();
  const Planned planned = plan_factor(job.job, plan.request(job.job.run.memory), Log(Log::Level::warnings));
  return tell_planned(planned, plan, options, values, job.job.output, false);
}

ExitCode of_apply(const Arguments& arguments) {
  Options options("plan apply", "--aligned A --factors F --output O [options]",
                  "Tells what 'lox apply' would cost with the same options.",
                  "  lox plan apply --aligned aligned --factors factors.h5 --output hardened --ranks 8");
  ApplyOptions job;
  job.add_to(options);
  PlanOptions plan(true);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  job.finish(values);
  plan.finish();
  const Planned planned =
      plan_apply_job(job.job, plan.request(job.job.run.memory), Log(Log::Level::warnings));
  return tell_planned(planned, plan, options, values, job.job.output, false);
}

ExitCode of_analyze(const Arguments& arguments) {
  Options options("plan analyze", "--base B --aligned A [--tuned T].. --output R.json [options]",
                  "Tells what 'lox analyze' would cost with the same options.",
                  "  lox plan analyze --base base --aligned aligned --tuned tuned --output r.json --ranks 8");
  AnalyzeOptions job;
  job.add_to(options);
  PlanOptions plan(true);
  plan.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  job.finish();
  plan.finish();
  const Planned planned =
      plan_analyze_job(job.asked, plan.request(job.asked.job.run.memory), Log(Log::Level::warnings));
  return tell_planned(planned, plan, options, values, job.asked.job.output, false);
}

}  // namespace

std::optional<ExitCode> plan_of_other_task(const Arguments& arguments) {
  if (arguments.empty()) return std::nullopt;
  const Arguments rest(arguments.begin() + 1, arguments.end());
  if (arguments[0] == "convert") return of_convert(rest);
  if (arguments[0] == "verify") return of_verify(rest);
  if (arguments[0] == "synth") return of_synth(rest);
  if (arguments[0] == "factor") return of_factor(rest);
  if (arguments[0] == "apply") return of_apply(rest);
  if (arguments[0] == "analyze") return of_analyze(rest);
  return std::nullopt;
}

}  // namespace lox
