// SPDX-License-Identifier: MIT
#include "lox/cli/apply_options.hpp"

#include "lox/cli/number_list.hpp"

#include <algorithm>

namespace lox {
namespace {

constexpr const char* default_coef = "1.25";

}  // namespace

void ApplyOptions::add_to(Options& options) {
  options.add(
      {.name = "aligned",
       .value = "CKPT",
       .brief = "the model that the factors are of",
       .text = "the aligned model that the factors are of: known by what its matrices hold, wherever it lies",
       .example = "/path/to/aligned"},
      job.aligned);
  options.add(
      {.name = "base",
       .value = "CKPT",
       .brief = "instead of --aligned: add to the model before alignment",
       .text = "instead of `--aligned`: the model before alignment, known in the same way. With `--coef 1` "
               "base + Delta_k comes of it, the aligned model with an alignment of rank k",
       .example = "/path/to/base"},
      job.base);
  options.add({.name = "factors",
               .value = "STORE",
               .brief = "what 'lox factor' has written",
               .text = "what `lox factor` has written",
               .example = "/path/to/factors"},
              job.factors);
  options.add(
      {.name = "output",
       .value = "CKPT",
       .brief = "the hardened model; {k} and {coef} stand for theirs",
       .text = "the hardened model, in the format of its name; `{k}` and `{coef}` in it stand for the "
               "numbers of each output, where several are made",
       .example = "/path/to/hardened-{coef}",
       .path = true},
      job.output);
  options.add(
      {.name = "k",
       .value = "K,..",
       .brief = "how many triplets are added; several: one output each",
       .text = "how many of the triplets are added, one or several numbers with commas between them: each "
               "gives an output, all in one reading",
       .fallback = "all that the store has",
       .example = "2,6"},
      k);
  options.add(
      {.name = "coef",
       .value = "C,..",
       .brief = "how much is added; several: one output each",
       .text = "how much of them is added, one or several numbers with commas between them: each gives an "
               "output, all in one reading. With `--base` there is no default",
       .fallback = default_coef},
      coef);
  options.add(
      {.name = "accept-open",
       .brief = "also a k that the store does not vouch for",
       .text = "also a k that the store does not vouch for, since s_k and s_k+1 of a matrix are equal as far "
               "as was solved"},
      job.accept_open);
  run.add_memory_to(options);
  options.add({.name = "report",
               .value = "FILE",
               .brief = "where the report goes, of one output",
               .text = "the report of one output, written at the end",
               .fallback = "`<output>.report.json`",
               .example = "/path/to/report.json"},
              job.report);
  run.add_time_to(options, job.run, job.overwrite);
  options.allow_config_file();
}

void ApplyOptions::finish(const boost::program_options::variables_map& values) {
  run.finish(job.run);
  if (values.contains("k")) job.k = parse_list<Index>(k, "--k");
  const bool said = values.contains("coef");
  if (!said && !job.base.empty()) {
    fail(ExitCode::usage,
         "--base without --coef: say how much of the factors is added; --coef 1 gives base + Delta_k");
  }
  job.coef = parse_list<double>(said ? coef : default_coef, "--coef");
  for (fs::path* path : {&job.aligned, &job.base, &job.factors}) *path = without_slash(*path);
  // In one order, however they were given: the same models are the same job.
  std::ranges::sort(job.k);
  std::ranges::sort(job.coef);
  check_apply_job(job);
}

}  // namespace lox
