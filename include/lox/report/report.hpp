// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/run/record.hpp"
#include "lox/run/times.hpp"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// The numbers of one matrix, or sums and worst cases of a batch of them.
struct Measures {
  Spectrum spectrum;
  Edit edit;
  double energy = 0;    ///< share of |Delta|^2 in its top k singular values
  double realised = 0;  ///< share of the edit that survives rounding
  double changed = 0;   ///< share of entries that differ from the aligned model's
};

/// One matrix of a batch.
struct MatrixEntry {
  Action action = Action::copy;
  Measures measures;
};

/// What became of one tensor.
struct TensorEntry {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string dtype;
  Action action = Action::copy;
  bool unchanged = false;  ///< a matrix whose Delta is zero
  Measures measures;
  Timing timing;
  std::vector<MatrixEntry> batch;  ///< of a tensor of more than two dimensions
};

/// What a run was like.
struct RunTotals {
  double seconds = 0;
  WorkTimes work;                    ///< summed over ranks
  std::uint64_t peak_rss_bytes = 0;  ///< the largest of any rank
  int ranks = 1;
};

/// What tells that an output is the one that a report is of.
struct Proof {
  std::string fingerprint;  ///< of the job and its inputs (io/identity)
  std::uint64_t table = 0;  ///< of the output: its table_checksum, and
  std::uint64_t bytes = 0;  ///< of all its tensors
};

/// What was done, and how well: what docs/usage.md calls the report.
struct Report {
  std::string lox;             ///< version
  nlohmann::ordered_json job;  ///< parameters and paths, by option names
  std::int64_t edited = 0;
  std::int64_t factored = 0;  ///< of a store of factors; nothing else is done to it
  std::int64_t copied = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  RunTotals run;
  Proof proof;
  nlohmann::ordered_json
      made;  ///< when, where, with which libraries, of which files; null in an older report
  std::vector<TensorEntry> tensors;
};

/// From the records of all finished items; entries in the order of the model's tensors. `target`: whose
/// edits.
Report make_report(nlohmann::ordered_json job, const Checkpoint& model, const std::vector<Record>& records,
                   const RunTotals& run, std::size_t target = 0);

/// Whether the report is of this output: another model has another table, a job that did not finish has no
/// report.
bool is_of(const Report& report, const Checkpoint& output);

}  // namespace lox
