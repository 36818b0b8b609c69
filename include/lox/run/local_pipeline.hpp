// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/progress.hpp"
#include "lox/run/steps.hpp"
#include "lox/run/times.hpp"

#include <vector>

namespace lox {

/// Does the items that a rank solves alone: one thread reads the next one, the caller's thread solves, one
/// thread writes the last one and commits it.
///
///     items -> read -> [1 waits] -> solve -> [2 wait] -> write -> commit
///
/// The working sets of all items in flight together stay below `memory` bytes. What the Krylov method fails
/// on is done again by the exact method when all else is finished and the memory is free.
class LocalPipeline {
 public:
  LocalPipeline(LocalSteps& steps, std::uint64_t memory) : steps_(steps), memory_(memory) {}

  /// Adds what it does to `counts` and `times`. Returns the records of the committed items. Ends early if
  /// `progress` says so: with urgency 1 after the item being solved. Throws what a step threw.
  std::vector<Record> run(const std::vector<Item>& items, Progress& progress, Counts& counts,
                          WorkTimes& times);

 private:
  struct Run;
  std::vector<Record> run_once(const std::vector<Item>& items, std::vector<Item>& failed, Progress& progress,
                               Counts& counts, WorkTimes& times);
  Item once_more(const Parcel& parcel) const;
  LocalSteps& steps_;
  std::uint64_t memory_;
};

}  // namespace lox
