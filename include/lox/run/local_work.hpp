// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/journal.hpp"
#include "lox/run/models.hpp"
#include "lox/run/progress.hpp"
#include "lox/run/report.hpp"

#include <vector>

namespace lox {

/// Does the items that this rank solves alone: one thread reads the next one, this thread solves, one thread
/// writes the last one, syncs it and appends its record to the journal. The working sets of all items in
/// flight together stay below `memory` bytes. Ends early if `progress` says so: with urgency 1 after the item
/// being solved.
class LocalWork {
 public:
  LocalWork(ModelFiles& files, const Job& job, Journal& journal, std::uint64_t memory)
      : files_(files), job_(job), journal_(journal), memory_(memory) {}

  /// Adds the counts of what it does to `counts`. Returns the records of the finished items.
  std::vector<TensorRecord> run(const std::vector<WorkItem>& items, Progress& progress,
                                Progress::Counts& counts, WorkTimes& times);

 private:
  struct Pipeline;
  /// Items that the Krylov method failed on go to `failed`, to be done again when the memory is free.
  std::vector<TensorRecord> run_once(const std::vector<WorkItem>& items, std::vector<WorkItem>& failed,
                                     Progress& progress, Progress::Counts& counts, WorkTimes& times);
  WorkItem once_more(const WorkItem& item) const;
  ModelFiles& files_;
  const Job& job_;
  Journal& journal_;
  std::uint64_t memory_;
};

}  // namespace lox
