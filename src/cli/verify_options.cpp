// SPDX-License-Identifier: MIT
#include "lox/cli/verify_options.hpp"

#include <charconv>

namespace lox {

void VerifyOptions::add_to(Options& options) {
  Job& job = asked.job;
  options.add({.name = "base", .value = "CKPT", .brief = "model before alignment"}, job.base);
  options.add({.name = "aligned", .value = "CKPT", .brief = "model after alignment, or a LoRA adapter"},
              job.aligned);
  options.add({.name = "hardened", .value = "CKPT", .brief = "the result to check"}, job.output);
  options.add(
      {.name = "factors",
       .value = "STORE",
       .brief = "check this store against --base, or --hardened against it",
       .text = "a store of `lox factor`: with `--base` it is checked itself, with `--hardened` the model "
               "that `apply` made of it"},
      asked.factors);
  options.add({.name = "k",
               .value = "K",
               .brief = "as given to harden or apply",
               .fallback = "6; of a store, all that it has"},
              k);
  options.add({.name = "coef", .value = "C", .brief = "as given to harden or apply"}, job.coef);
  options.add({.name = "include", .value = "REGEX", .brief = "as given to harden"}, job.selection.include);
  options.add({.name = "exclude", .value = "REGEX", .brief = "as given to harden"}, job.selection.exclude);
  options.add({.name = "sample",
               .value = "N",
               .brief = "matrices to check; 0: all",
               .text = "matrices to check, spread over the model; 0: all"},
              asked.sample);
}

void VerifyOptions::finish() {
  Index& rank = asked.job.solve.k;
  if (asked.has_store()) rank = full_rank;
  if (!k.empty()) {
    const auto [end, error] = std::from_chars(k.data(), k.data() + k.size(), rank);
    if (error != std::errc() || end != k.data() + k.size()) {
      fail(ExitCode::usage, "--k '{}' is not a whole number", k);
    }
  }
  check_verify_job(asked);
}

}  // namespace lox
