// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/linalg/svd.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// When a matrix is solved by all ranks together.
enum class GridUse { automatic, never, always };

/// What the user asked `harden` to do: the options of the command line and the job file.
struct Job {
  fs::path base;
  fs::path aligned;
  fs::path output;
  std::int64_t k = 6;  ///< 0: full rank
  double coef = 1.25;
  Method svd = Method::krylov;
  double tolerance = 1e-4;
  double proof = 0.5;  ///< no singular value above (1 + proof) s_k may be missing
  GridUse grid = GridUse::automatic;
  std::uint64_t memory = 0;  ///< bytes a rank may use; 0: find out
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::uint64_t seed = 0;
  bool random_seed = false;  ///< `seed` is to be drawn when the job begins
  fs::path report;           ///< empty: <output>.report.json
  bool overwrite = false;
  bool recheck = false;   ///< of a resumed output: compare finished tensors with their checksums first
  double time_limit = 0;  ///< seconds from the start; 0: from the Slurm job, if it tells
};

/// Throws Error(usage) naming the option that makes no sense.
void check_job(const Job& job);

/// The parameters that decide the numbers of the result, by their option names; goes into the report and,
/// with the inputs' identity, into the job's fingerprint.
nlohmann::json job_parameters(const Job& job);

fs::path report_path(const Job& job);

}  // namespace lox
