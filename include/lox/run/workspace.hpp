// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/run/lock.hpp"
#include "lox/run/record.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// The seed of the unfinished output, if its job differs from this one in nothing else.
std::optional<std::uint64_t> unfinished_seed(const Job& job);

/// An output while it grows: "<output>.partial" holds the bytes, "<output>.journal" what is finished of them
/// and the lock. All functions are for rank 0.
struct Workspace {
  std::unique_ptr<OutputLock> lock;
  Checkpoint output;                   ///< the partial; tensors in the order of the aligned model
  std::vector<TensorRecord> finished;  ///< by earlier runs
  bool resumed = false;
  bool published = false;  ///< an earlier run got as far as the rename; only the journal is left to remove
};

/// What makes two jobs the same: parameters that decide the numbers, and the inputs' files by size, time and
/// header.
nlohmann::json job_fingerprint(const Job& job, const Checkpoint& base, const Checkpoint& aligned);

/// Goes on with an unfinished output of the same job, or makes a new one at its full size. `items` is how
/// many there will be in all, for `lox status`. Throws Error(bad_input) if another job is at work on it, if
/// the unfinished one belongs to another job, naming the difference (with job.overwrite it is thrown away
/// instead), or if the output exists.
Workspace open_workspace(const Job& job, const Checkpoint& base, const Checkpoint& aligned,
                         std::int64_t items);

/// Throws Error(io) if an input is not the one that `fingerprint` was made of.
void check_inputs_unchanged(const nlohmann::json& fingerprint, const Checkpoint& base,
                            const Checkpoint& aligned);

/// Writes the report, renames the partial to the output and removes the journal, in an order that a crash at
/// any moment leaves either a resumable or a finished output.
void close_workspace(const Job& job, const nlohmann::ordered_json& report);

/// What is left to do after a crash between the rename and the end.
void remove_journal(const Job& job);

/// Removes the unfinished output and its journal.
void discard_workspace(const fs::path& output);

/// How far an output is.
struct OutputStatus {
  enum class State { absent, unfinished, finished };
  State state = State::absent;
  std::int64_t items = 0;  ///< in all; 0: not known
  std::int64_t items_finished = 0;
  std::uint64_t bytes_finished = 0;
  std::string holder;  ///< the job at work on it, if one is
};
OutputStatus output_status(const fs::path& output);

/// One record an item: the last that was written.
std::vector<TensorRecord> latest(std::vector<TensorRecord> records);

}  // namespace lox
