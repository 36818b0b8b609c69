// SPDX-License-Identifier: MIT
#include "lox/cli/analyze_options.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_analyze(const Arguments& arguments) {
  Options options("analyze", "--base B --aligned A [--tuned T].. --output R.json [options]",
                  "Tells of every matrix what alignment changed: spectrum, energy and stable rank\n"
                  "of A - B, and how much of it lies in its k largest directions (R_align). Of a\n"
                  "model T that was tuned from A, how much of T - B lies in the same directions\n"
                  "(R_ft), and how the subspaces overlap. The same command goes on with an analysis\n"
                  "that was left unfinished.",
                  "  mpirun -n 8 lox analyze --base Llama-2-7b-hf --aligned Llama-2-7b-chat-hf \\\n"
                  "      --tuned attacked --k 1,6,100 --output analysis.json");
  AnalyzeOptions job;
  job.add_to(options);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  job.finish();
  const auto work = [job](const Comm& comm) {
    return analyze(comm, job.asked, Log(job.words.run.level(comm)));
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
