// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/linalg/svd.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// As k: Delta itself, without an SVD.
inline constexpr Index full_rank = 0;

/// What is asked of the SVD of every delta: this decides the factors, and nothing else does.
struct SolveOptions {
  Index k = 6;  ///< or full_rank
  Method svd = Method::krylov;
  double tolerance = 1e-4;  ///< for the certificate
  double proof = 0.5;       ///< no singular value above (1 + proof) s_k may be missing
  std::uint64_t seed = 0;
  bool every_k = false;  ///< tell for which k' < k the first k' triplets do not make Delta_k' (lox factor)
};

/// Which matrices are edited: regular expressions that match anywhere in a tensor's name.
struct Selection {
  std::vector<std::string> include;  ///< empty: all
  std::vector<std::string> exclude;
};

/// What is done where the models do not match.
struct PairRules {
  std::vector<std::string> rename;  ///< FROM=TO, of the base's names
  bool copy_unpaired = false;       ///< what only the aligned model has is copied, else refused
  bool copy_extra_rows = false;     ///< of matrices with more or fewer rows the common ones are edited
  bool any() const { return !rename.empty() || copy_unpaired || copy_extra_rows; }
};

/// When a matrix is solved by all ranks together.
enum class GridUse { automatic, never, always };

/// How a run uses the machine. Nothing of it changes what is written, but for the last bits of grid items.
struct RunOptions {
  GridUse grid = GridUse::automatic;
  std::optional<std::uint64_t> memory;  ///< bytes a rank may use; else what is there
  std::optional<double> time_limit;  ///< seconds from the start; else until the Slurm job's end, if it tells
  bool recheck = false;  ///< of a resumed output: compare finished tensors with their checksums first
};

/// What the user asked `harden` to do: the options of the command line and the job file.
struct Job {
  fs::path base;
  fs::path aligned;
  fs::path output;
  SolveOptions solve;
  Selection selection;
  PairRules pairing;
  RunOptions run;
  double coef = 1.25;
  bool random_seed = false;  ///< the seed is to be drawn when the job begins
  fs::path report;           ///< empty: <output>.report.json
  bool overwrite = false;
};

/// Throws Error(usage) naming the option that makes no sense.
void check_job(const Job& job);
void check_coef(double coef);

/// The parameters that decide the numbers of the result, by their option names; goes into the report and,
/// with the inputs' identity, into the output's.
nlohmann::json job_parameters(const Job& job);

/// What a report's name has beyond the output's, where no other was asked for.
inline constexpr const char* report_ending = ".report.json";
fs::path report_path(const Job& job);

}  // namespace lox
