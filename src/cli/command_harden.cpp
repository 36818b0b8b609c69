// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/cli/job_options.hpp"
#include "lox/task/harden.hpp"

namespace po = boost::program_options;

namespace lox {

ExitCode run_harden(const Arguments& arguments) {
  Options options("harden", "--base B --aligned A --output O [options]",
                  "Adds coef times the top-k singular part of A - B to A, matrix by matrix, and\n"
                  "writes the result to O with a report beside it. The same command goes on with\n"
                  "an output that was left unfinished.",
                  "  mpirun -n 8 lox harden --base Llama-2-7b-hf --aligned Llama-2-7b-chat-hf \\\n"
                  "      --output Llama-2-7b-chat-hardened");
  JobOptions job;
  job.add_to(options);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  job.finish();
  const Comm comm = Comm::world();
  refuse_launcher_mismatch();
  const Log::Level level = !comm.is_root() ? Log::Level::silent
                           : job.quiet     ? Log::Level::warnings
                                           : Log::Level::all;
  return harden(comm, job.job, Log(level));
}

}  // namespace lox
