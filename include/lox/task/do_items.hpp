// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/plan/plan.hpp"
#include "lox/report/report.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/progress.hpp"
#include "lox/run/steps.hpp"

#include <functional>
#include <optional>
#include <vector>

namespace lox {

/// Bytes and number of items, of which each moves what `moves` says.
Counts count_items(const std::vector<Item>& items, const std::function<std::uint64_t(const Item&)>& moves);

/// Drops the items that earlier runs have `finished`, and deals the others to ranks. `leading`: the model
/// whose tensors give records their names. Returns what was dropped.
Counts drop_done(std::vector<Item>& items, const Checkpoint& leading, const std::vector<Record>& finished,
                 const std::function<std::uint64_t(const Item&)>& moves, int ranks);

/// What a rank has done of a plan.
struct ItemsDone {
  std::vector<Record> records;
  Counts counts;
  WorkTimes times;
  std::optional<Error> failure;  ///< wrong data: all ranks have stopped, and are to agree on it
};

/// Does the items of a plan: those of all ranks first, if `together` is given, then this rank's own. `total`,
/// and `earlier` that is done of it, are for people; `memory`: bytes that a rank may use. What is wrong with
/// the data ends all ranks in good order. Collective.
ItemsDone do_items(const Comm& comm, const Log& log, const Plan& plan, LocalSteps& alone, GridSteps* together,
                   Journal& journal, Counts total, Counts earlier, std::uint64_t memory);

/// What all ranks have done, but for the seconds that it took. Collective.
RunTotals sum_up(const Comm& comm, const ItemsDone& done);

}  // namespace lox
