// SPDX-License-Identifier: MIT
#include "lox/plan/job.hpp"

#include "lox/base/error.hpp"
#include "lox/plan/matching.hpp"
#include "lox/plan/patterns.hpp"

#include <cmath>

#include <nlohmann/json.hpp>

namespace lox {
void check_job(const Job& job) {
  if (job.base.empty()) fail(ExitCode::usage, "--base is missing: the checkpoint before alignment");
  if (job.aligned.empty()) fail(ExitCode::usage, "--aligned is missing: the checkpoint after alignment");
  if (job.output.empty()) fail(ExitCode::usage, "--output is missing: where the hardened checkpoint goes");
  const Index k = job.solve.k;
  if (k < 0) fail(ExitCode::usage, "--k {} is negative; give the rank to extrapolate, or 0 for full rank", k);
  check_coef(job.coef);
  if (!(job.solve.tolerance > 0 && job.solve.tolerance < 1)) {
    fail(ExitCode::usage, "--tolerance {} is not between 0 and 1", job.solve.tolerance);
  }
  if (!(job.solve.proof >= 0.01 && job.solve.proof <= 100)) {
    fail(ExitCode::usage, "--proof {} is not between 0.01 and 100", job.solve.proof);
  }
  (void)Patterns(job.selection);
  check_rename(job.pairing.rename);
}

void check_coef(double coef) {
  if (!std::isfinite(coef)) fail(ExitCode::usage, "--coef {} is not a finite number", coef);
  if (coef < 0) {
    fail(ExitCode::usage, "--coef {} is negative: that would weaken the alignment, and lox only hardens",
         coef);
  }
  if (coef > 1e6) fail(ExitCode::usage, "--coef {} is beyond 1e6", coef);
}

nlohmann::json job_parameters(const Job& job) {
  return {{"k", job.solve.k},
          {"coef", job.coef},
          {"svd", method_name(job.solve.svd)},
          {"tolerance", job.solve.tolerance},
          {"proof", job.solve.proof},
          {"include", job.selection.include},
          {"exclude", job.selection.exclude},
          {"rename", job.pairing.rename},
          {"unpaired", job.pairing.copy_unpaired ? "copy" : "refuse"},
          {"extra_rows", job.pairing.copy_extra_rows ? "copy" : "refuse"},
          {"seed", job.solve.seed}};
}

fs::path report_path(const Job& job) {
  if (!job.report.empty()) return job.report;
  fs::path path = without_slash(job.output);
  path += report_ending;
  return path;
}

}  // namespace lox
