// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/cli/options.hpp"
#include "lox/plan/job.hpp"
#include "lox/task/verify.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_verify(const Arguments& arguments) {
  Options options("verify", "--base B --aligned A --hardened H [options]",
                  "Checks a hardened model without trusting the run that made it: every entry of\n"
                  "sampled matrices against an edit formed anew in double precision, copied tensors\n"
                  "and the model's other files byte by byte.\n"
                  "Give --k, --coef, --include and --exclude as they were given to harden.",
                  "  lox verify --base base --aligned aligned --hardened hardened --sample 4");
  Job job;
  std::int64_t sample = 8;
  bool quiet = false;
  options.add({.name = "base", .value = "CKPT", .brief = "model before alignment"}, job.base);
  options.add({.name = "aligned", .value = "CKPT", .brief = "model after alignment"}, job.aligned);
  options.add({.name = "hardened", .value = "CKPT", .brief = "the result to check"}, job.output);
  options.add({.name = "k", .value = "K", .brief = "as given to harden"}, job.solve.k);
  options.add({.name = "coef", .value = "C", .brief = "as given to harden"}, job.coef);
  options.add({.name = "include", .value = "REGEX", .brief = "as given to harden"}, job.selection.include);
  options.add({.name = "exclude", .value = "REGEX", .brief = "as given to harden"}, job.selection.exclude);
  options.add({.name = "sample",
               .value = "N",
               .brief = "matrices to check; 0: all",
               .text = "matrices to check, spread over the model; 0: all"},
              sample);
  options.add({.name = "quiet", .brief = "say nothing but what is wrong"}, quiet);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  if (job.output.empty()) fail(ExitCode::usage, "--hardened is missing: the checkpoint to check");
  if (sample < 0) fail(ExitCode::usage, "--sample {} is negative", sample);
  check_job(job);
  const auto work = [=](const Comm& comm) {
    return verify(comm, job, sample, Log(comm.is_root() && !quiet ? Log::Level::all : Log::Level::silent));
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
