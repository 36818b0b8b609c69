// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/cli/options.hpp"
#include "lox/task/verify.hpp"

namespace po = boost::program_options;

namespace lox {

ExitCode run_verify(const Arguments& arguments) {
  Options options("verify", "--base B --aligned A --hardened H [options]",
                  "Checks a hardened model without trusting the run that made it: every entry of\n"
                  "sampled matrices against an edit formed anew in double precision, copied tensors\n"
                  "and the model's other files byte by byte.\n"
                  "Give --k, --coef, --include and --exclude as they were given to harden.",
                  "  lox verify --base base --aligned aligned --hardened hardened --sample 4");
  Job job;
  std::string base;
  std::string aligned;
  std::string hardened;
  std::int64_t sample = 8;
  bool quiet = false;
  options.add()("base", po::value(&base)->value_name("CKPT"), "model before alignment")(
      "aligned", po::value(&aligned)->value_name("CKPT"), "model after alignment")(
      "hardened", po::value(&hardened)->value_name("CKPT"), "the result to check")(
      "k", po::value(&job.solve.k)->default_value(job.solve.k), "as given to harden")(
      "coef", po::value(&job.coef)->default_value(job.coef), "as given to harden")(
      "include", po::value(&job.selection.include)->value_name("REGEX"), "as given to harden")(
      "exclude", po::value(&job.selection.exclude)->value_name("REGEX"), "as given to harden")(
      "sample", po::value(&sample)->default_value(sample)->value_name("N"), "matrices to check; 0: all")(
      "quiet", po::bool_switch(&quiet), "say nothing but what is wrong");
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  if (hardened.empty()) fail(ExitCode::usage, "--hardened is missing: the checkpoint to check");
  if (sample < 0) fail(ExitCode::usage, "--sample {} is negative", sample);
  job.base = base;
  job.aligned = aligned;
  job.output = hardened;
  check_job(job);
  const Comm comm = Comm::world();
  refuse_launcher_mismatch();
  return verify(comm, job, sample, Log(comm.is_root() && !quiet ? Log::Level::all : Log::Level::silent));
}

}  // namespace lox
