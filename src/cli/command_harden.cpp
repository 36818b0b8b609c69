// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/cli/job_options.hpp"
#include "lox/task/harden.hpp"
#include "lox/task/harden_adapter.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_harden(const Arguments& arguments) {
  Options options("harden", "--base B --aligned A --output O [options]",
                  "Adds coef times the top-k singular part of A - B to A, matrix by matrix, and\n"
                  "writes the result to O with a report beside it. The same command goes on with\n"
                  "an output that was left unfinished.",
                  "  mpirun -n 8 lox harden --base Llama-2-7b-hf --aligned Llama-2-7b-chat-hf \\\n"
                  "      --output Llama-2-7b-chat-hardened");
  JobOptions job;
  job.add_to(options);
  options.add(
      {.name = "as-adapter",
       .brief = "--aligned and --output are LoRA adapters; no base is read",
       .text = "`--aligned` is a LoRA adapter as PEFT saves it, and `--output` becomes one: the hardened "
               "adapter, of the same rank, names and dtype. No base is read ([adapters.md](adapters.md))"},
      job.as_adapter);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  job.finish();
  const auto work = [job](const Comm& comm) {
    const Log log(job.run.level(comm));
    return job.as_adapter ? harden_adapter(comm, job.job, log) : harden(comm, job.job, log);
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
