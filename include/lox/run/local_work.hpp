// SPDX-License-Identifier: MIT
#pragma once
#include <vector>

#include "lox/io/checkpoint.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/progress.hpp"

namespace lox {

/// The three checkpoints of a job. Tensors of `output` are in the order of `aligned`.
struct Models {
  Checkpoint base;
  Checkpoint aligned;
  Checkpoint output;
};

/// Does the items that this rank solves alone: one thread reads the next one, this thread solves, one thread writes the
/// last one, syncs it and appends its record to the journal. The working sets of all items in flight together stay
/// below `memory` bytes. Ends early if `progress` says so: with urgency 1 after the item being solved.
class LocalWork {
 public:
  LocalWork(const Models& models, const Plan& plan, const Job& job, Journal& journal, std::uint64_t memory);
  ~LocalWork();
  LocalWork(const LocalWork&) = delete;
  LocalWork& operator=(const LocalWork&) = delete;

  /// Adds the counts of what it does to `counts`. Returns the records of the finished items.
  std::vector<TensorRecord> run(const std::vector<WorkItem>& items, Progress& progress, Progress::Counts& counts);

 private:
  struct Pipeline;
  const Models& models_;
  const Plan& plan_;
  const Job& job_;
  Journal& journal_;
  std::uint64_t memory_;
  Storage base_;
  Storage aligned_;
  Storage output_;
};

/// Bytes that an item moves, for progress: what it reads and what it writes.
std::uint64_t item_bytes(const Models& models, const Plan& plan, const WorkItem& item);

}  // namespace lox
