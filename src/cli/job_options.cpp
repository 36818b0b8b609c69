// SPDX-License-Identifier: MIT
#include "lox/cli/job_options.hpp"

#include "lox/base/units.hpp"

#include <charconv>

namespace lox {

void RunWords::add_memory_to(Options& options) {
  options.add({.name = "memory",
               .value = "BYTES",
               .brief = "memory of a rank, e.g. 8GiB",
               .text = "memory of a rank, e.g. `8GiB`",
               .fallback = "its share of the limit of the Slurm job or cgroup, else of what is free",
               .example = "8GiB"},
              memory);
}

void RunWords::add_time_limit_to(Options& options) {
  options.add({.name = "time-limit",
               .value = "TIME",
               .brief = "stop in good order before it is over, e.g. 2h",
               .text = "stop in good order before it is over: `90s`, `15m`, `2h`, `1:30:00`, `1-12:00:00`",
               .fallback = "the Slurm job's end, where it is known",
               .example = "2h"},
              time_limit);
}

void RunWords::add_overwrite_to(Options& options, bool& overwrite) {
  options.add({.name = "overwrite",
               .brief = "replace an existing output",
               .text = "replace an existing output, or throw away an unfinished one of another job"},
              overwrite);
  options.add({.name = "quiet", .brief = "warnings and errors only"}, quiet);
}

void RunWords::add_time_to(Options& options, RunOptions& run, bool& overwrite) {
  add_time_limit_to(options);
  options.add({.name = "recheck",
               .brief = "before going on, compare what is finished with its checksums",
               .text = "before going on with an unfinished output, compare what is finished with its "
                       "checksums, and do again what differs"},
              run.recheck);
  add_overwrite_to(options, overwrite);
}

void RunWords::add_limits_to(Options& options, bool& overwrite) {
  add_time_limit_to(options);
  add_overwrite_to(options, overwrite);
}

void RunWords::finish(RunOptions& run) const {
  if (!time_limit.empty()) run.time_limit = parse_seconds(time_limit, "--time-limit");
  if (!memory.empty()) run.memory = parse_bytes(memory, "--memory");
}

Log::Level RunWords::level(const Comm& comm) const {
  if (!comm.is_root()) return Log::Level::silent;
  return quiet ? Log::Level::warnings : Log::Level::all;
}

void JobOptions::add_pair_to(Options& options) {
  const bool adapters = task != Task::analyze;
  options.add({.name = "base",
               .value = "CKPT",
               .brief = "model before alignment",
               .text = "the model before alignment: a directory of `*.safetensors`, one such file, or one "
                       "`.h5` file",
               .example = "/path/to/base"},
              job.base);
  options.add({.name = "aligned",
               .value = "CKPT",
               .brief = adapters ? "model after alignment, or a LoRA adapter" : "model after alignment",
               .text = std::string("the model after alignment") +
                       (adapters ? ", or the folder of a LoRA adapter as PEFT saves it "
                                   "([adapters.md](adapters.md#an-adapter-that-was-aligned))"
                                 : ""),
               .example = "/path/to/aligned"},
              job.aligned);
}

void JobOptions::add_to(Options& options) {
  const bool factor = task == Task::factor;
  add_pair_to(options);
  options.add({.name = "output",
               .value = "CKPT",
               .brief = factor ? "the store of factors; its format follows from the name"
                               : "the hardened model; its format follows from the name",
               .text = std::string(factor ? "the store of factors" : "the hardened model") +
                       ", in the format of its name. While it grows it is called "
                       "`<output>.partial`, and `<output>.journal` says what of it is finished",
               .example = factor ? "/path/to/factors" : "/path/to/hardened"},
              job.output);
  options.add(
      {.name = "k",
       .value = "K",
       .brief = factor ? "triplets of every matrix to keep"
                       : "rank of the part that is extrapolated; 0: full rank",
       .text = factor ? "triplets of every matrix to keep; `apply` takes as many or fewer. Beyond the "
                        "smaller side of a matrix they are zero; 0, full rank, has no factors and is refused"
                      : "rank of the part that is extrapolated; 0: full rank, as in the authors' script"},
      job.solve.k);
  if (!factor) {
    options.add({.name = "coef",
                 .value = "C",
                 .brief = "how much of it is added to the aligned model",
                 .text = "how much of it is added. Negative values are refused: they would weaken the "
                         "alignment"},
                job.coef);
  }
  add_solver_to(options);
  add_selection_to(options);
  add_pairing_to(options);
  add_seed_to(options);
  options.add({.name = "report",
               .value = "FILE",
               .brief = "where the report goes",
               .text = "the report, written at the end",
               .fallback = "`<output>.report.json`",
               .example = "/path/to/report.json"},
              job.report);
  run.add_time_to(options, job.run, job.overwrite);
  options.allow_config_file();
}

void JobOptions::add_solver_to(Options& options) {
  options.add({.name = "svd",
               .value = "krylov|exact",
               .brief = "how singular triplets are found",
               .text = "how singular triplets are found; `krylov`: block Krylov with a measured certificate, "
                       "`exact`: LAPACK / ScaLAPACK"},
              svd);
  options.add({.name = "tolerance",
               .value = "TOL",
               .brief = "bound on the residuals of the singular triplets",
               .text = "bound on the certificate, the largest residual of the singular triplets. If Krylov "
                       "does not reach it, the exact method takes over; if that does not either, exit code 4",
               .fallback = "1e-4"},
              job.solve.tolerance);
  options.add({.name = "proof",
               .value = "EPS",
               .brief = "no singular value above (1 + EPS) s_k may be missing, but for a probability of 1e-9",
               .text = "no singular value above (1 + EPS) s_k may be missing, but for a probability of 1e-9 "
                       "a matrix ([numerics.md](numerics.md#what-is-proved-and-what-is-not)); smaller values "
                       "cost passes"},
              job.solve.proof);
  options.add({.name = "grid",
               .value = "auto|never|always",
               .brief = "solve a matrix by all ranks together",
               .text = "which matrices all ranks solve together; `auto`: those that do "
                       "not fit one rank, and those that would leave the other ranks idle at the end"},
              grid);
  run.add_memory_to(options);
}

void JobOptions::add_selection_to(Options& options) {
  const bool harden = task == Task::harden;
  const char* const others = task == Task::harden   ? "; the others are copied"
                             : task == Task::factor ? "; `apply` copies the others"
                                                    : "";
  const char* const verb = task == Task::harden ? "edit" : task == Task::factor ? "factor" : "analyse";
  options.add(
      {.name = "include",
       .value = "REGEX",
       .brief = fmt::format("{} only tensors whose name matches (repeatable)", verb),
       .text = fmt::format("{} only tensors whose name matches, anywhere in it{}. Repeatable", verb, others),
       .example = "self_attn|mlp"},
      job.selection.include);
  options.add(
      {.name = "exclude",
       .value = "REGEX",
       .brief = fmt::format("{} tensors whose name matches (repeatable)", harden ? "copy" : "leave out"),
       .text = fmt::format("{} tensors whose name matches, anywhere in it. Repeatable",
                           harden ? "copy" : "leave out"),
       .example = "embed_tokens|lm_head"},
      job.selection.exclude);
}

void JobOptions::add_pairing_to(Options& options) {
  options.add(
      {.name = "rename",
       .value = "FROM=TO",
       .brief = "another name for tensors of the base (repeatable)",
       .text = "what FROM matches, a regular expression, is TO in the names of the base's tensors, once in "
               "each name; `\\1` in TO is FROM's first group ([pairs.md](pairs.md#names)). Repeatable",
       .example = "^model\\.=model.language_model."},
      job.pairing.rename);
  options.add(
      {.name = "unpaired",
       .value = "copy|refuse",
       .brief = "tensors that only the aligned model has",
       .text = "tensors that only one model has: `copy` copies those of the aligned model and leaves those "
               "of the base out ([pairs.md](pairs.md#what-only-one-side-has))"},
      unpaired);
  options.add(
      {.name = "extra-rows",
       .value = "copy|refuse",
       .brief = "rows that only one model has, of an extended vocabulary",
       .text = "matrices with more rows in one model than in the other, as those of an extended vocabulary: "
               "`copy` edits the common rows and copies the others"},
      extra_rows);
}

void JobOptions::add_seed_to(Options& options) {
  options.add({.name = "seed",
               .value = "S",
               .brief = "of the random start of the SVD; 'random': drawn when the job begins",
               .text = "of the random start of the Krylov method, beside what the matrices hold. `random`: "
                       "drawn from the operating system when the job begins, for models from strangers; it "
                       "stands in journal, report and log, and an unfinished output goes on with its own"},
              seed);
}

void JobOptions::finish() {
  job.solve.svd = is_first_of("--svd", svd, "krylov", "exact") ? Method::krylov : Method::exact;
  if (grid == "auto") {
    job.run.grid = GridUse::automatic;
  } else if (grid == "never") {
    job.run.grid = GridUse::never;
  } else if (grid == "always") {
    job.run.grid = GridUse::always;
  } else {
    fail(ExitCode::usage, "--grid '{}' is none of auto, never, always", grid);
  }
  job.pairing.copy_unpaired = is_first_of("--unpaired", unpaired, "copy", "refuse");
  job.pairing.copy_extra_rows = is_first_of("--extra-rows", extra_rows, "copy", "refuse");
  if (seed == "random") {
    job.random_seed = true;
  } else if (const auto [end, error] =
                 std::from_chars(seed.data(), seed.data() + seed.size(), job.solve.seed);
             error != std::errc() || end != seed.data() + seed.size()) {
    fail(ExitCode::usage, "--seed '{}' is neither a whole number from 0 to 2^64 - 1 nor 'random'", seed);
  }
  run.finish(job.run);
  for (fs::path* path : {&job.base, &job.aligned, &job.output}) {
    *path = without_slash(*path);
  }
  if (task == Task::factor && job.solve.k == full_rank) {
    fail(ExitCode::usage, "--k 0 is full rank: Delta itself, which needs no factors; use harden");
  }
  Job whole = job;
  if (as_adapter) {
    if (!job.base.empty()) fail(ExitCode::usage, "--as-adapter reads no base: leave --base out");
    whole.base = job.aligned;
  }
  check_job(whole);
}

}  // namespace lox
