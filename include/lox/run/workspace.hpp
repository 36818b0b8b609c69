// SPDX-License-Identifier: MIT
#pragma once
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "lox/io/checkpoint.hpp"
#include "lox/run/record.hpp"

namespace lox {

/// An output while it grows: "<output>.partial" holds the bytes, "<output>.journal" what is finished of them.
/// All functions are for rank 0.
struct Workspace {
  Checkpoint output;                  ///< the partial; tensors in the order of the aligned model
  std::vector<TensorRecord> finished;  ///< by earlier runs
  bool resumed = false;
};

/// What makes two jobs the same: parameters that decide the numbers, and the inputs' files by size, time and header.
nlohmann::json job_fingerprint(const Job& job, const Checkpoint& base, const Checkpoint& aligned);

/// Goes on with an unfinished output of the same job, or makes a new one at its full size. Throws Error(bad_input) if
/// the unfinished one belongs to another job, naming the difference (with job.overwrite it is thrown away instead), or
/// if the output exists.
Workspace open_workspace(const Job& job, const Checkpoint& base, const Checkpoint& aligned);

/// Writes the report, renames the partial to the output and removes the journal, in an order that a crash at any
/// moment leaves either a resumable or a finished output.
void close_workspace(const Job& job, const nlohmann::json& report);

/// Removes the unfinished output and its journal.
void discard_workspace(const fs::path& output);

}  // namespace lox
