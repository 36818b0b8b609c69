// SPDX-License-Identifier: MIT
#include "lox/cli/analyze_options.hpp"

#include "lox/cli/number_list.hpp"

#include <algorithm>

namespace lox {

void AnalyzeOptions::add_to(Options& options) {
  words.add_pair_to(options);
  options.add({.name = "tuned",
               .value = "CKPT",
               .brief = "a model fine-tuned from the aligned one (repeatable)",
               .text = "a model fine-tuned from the aligned one, or the folder of a LoRA adapter of it: how "
                       "its change from the base lies to the subspaces of the alignment. Repeatable",
               .example = "/path/to/tuned",
               .path = true},
              tuned);
  options.add({.name = "factors",
               .value = "STORE",
               .brief = "a store of the pair, instead of solving it again",
               .text = "what `lox factor` has written of base and aligned: its triplets are taken, and Delta "
                       "is not solved again. What the store has no factors of is left out",
               .example = "/path/to/factors"},
              asked.factors);
  options.add(
      {.name = "output",
       .value = "FILE",
       .brief = "the analysis, as JSON",
       .text = "the analysis, one JSON text ([formats.md](formats.md#an-analysis)), written at the end. "
               "`<output>.journal` says until then what is finished",
       .example = "/path/to/analysis.json"},
      words.job.output);
  options.add({.name = "k",
               .value = "K,..",
               .brief = "dimensions of the subspaces, with commas between them",
               .text = "dimensions of the subspaces, one or several numbers with commas between them. Beyond "
                       "the smaller side of a matrix: all of its triplets; 0, full rank, is refused",
               .example = "1,6,100"},
              k);
  options.add({.name = "angles",
               .brief = "the principal angles between the subspaces as well",
               .text = "the principal angles between the subspaces as well, in radians"},
              asked.angles);
  words.add_solver_to(options);
  words.add_selection_to(options);
  words.add_seed_to(options);
  words.run.add_limits_to(options, words.job.overwrite);
  options.allow_config_file();
}

void AnalyzeOptions::finish() {
  asked.k = parse_list<Index>(k, "--k");
  std::ranges::sort(asked.k);
  words.job.solve.k = asked.k.back();
  for (const std::string& path : tuned) asked.tuned.push_back(without_slash(path));
  asked.factors = without_slash(asked.factors);
  if (words.job.output.empty()) fail(ExitCode::usage, "--output is missing: where the analysis goes");
  words.finish();
  asked.job = words.job;
  check_analyze_job(asked);
}

}  // namespace lox
