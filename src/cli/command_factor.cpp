// SPDX-License-Identifier: MIT
#include "lox/cli/job_options.hpp"
#include "lox/task/factor.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_factor(const Arguments& arguments) {
  Options options("factor", "--base B --aligned A --output F [options]",
                  "Keeps the top-k singular triplets of A - B, matrix by matrix, in a store F, a\n"
                  "checkpoint of its own. 'lox apply' makes hardened models of it, with any coef\n"
                  "and any k up to this one, without solving again and without B. The same command\n"
                  "goes on with a store that was left unfinished.",
                  "  mpirun -n 8 lox factor --base Llama-2-7b-hf --aligned Llama-2-7b-chat-hf \\\n"
                  "      --k 16 --output factors.h5");
  JobOptions job(JobOptions::Task::factor);
  job.add_to(options);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  job.finish();
  const auto work = [job](const Comm& comm) { return factor(comm, job.job, Log(job.run.level(comm))); };
  return {"", options.asked(values), work};
}

}  // namespace lox
