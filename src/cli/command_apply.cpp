// SPDX-License-Identifier: MIT
#include "lox/cli/apply_options.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_apply(const Arguments& arguments) {
  Options options("apply", "--aligned A --factors F --output O [options]",
                  "Adds coef times the first k triplets of a store of factors to A, matrix by\n"
                  "matrix, at copying speed: what harden writes with the same k and coef. Several\n"
                  "values of k and coef give several models in one reading of A. The same command\n"
                  "goes on with outputs that were left unfinished.",
                  "  lox apply --aligned Llama-2-7b-chat-hf --factors factors.h5 \\\n"
                  "      --coef 0.5,1,1.25 --output hardened-{coef}");
  ApplyOptions job;
  job.add_to(options);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  job.finish(values);
  const auto work = [job](const Comm& comm) { return apply(comm, job.job, Log(job.run.level(comm))); };
  return {"", options.asked(values), work};
}

}  // namespace lox
