// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/adapted_model.hpp"
#include "lox/plan/item.hpp"
#include "lox/plan/job.hpp"
#include "lox/plan/pairing.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace lox {

/// What a job may use.
struct Resources {
  int ranks = 1;
  std::optional<std::uint64_t> memory;    ///< bytes a rank; nothing: without limit
  std::optional<std::uint64_t> own = {};  ///< of the process that plans, if it is not one of them
};

/// Everything that will be done, decided before anything is. A pure function of the tables, the job and the
/// number of ranks, so every rank computes the same one.
struct Plan {
  std::vector<Item> items;         ///< grid items first, then local ones, longest first
  std::uint64_t book_keeping = 0;  ///< bytes that names, items, records and the report take in a rank
};

/// Pairs the tensors and decides; throws Error(bad_input) naming the tensor that has no partner, does not
/// match, or does not fit the memory even on a grid. `adapter`: the one that makes the aligned model, whose
/// matrices are done by its factors in stretches of rows; what it does not touch is copied.
Plan make_plan(const Checkpoint& base, const Checkpoint& aligned, const Job& job, const Resources& resources,
               const AdaptedModel* adapter = nullptr);

/// What `lox factor` does: the solving of make_plan(), where and by whom it solves. Copies are left out, and
/// matrices whose Delta is of rank k at most, which are edited without a solution, are solved by the exact
/// method, each by one rank.
Plan plan_factors(const Checkpoint& base, const Checkpoint& aligned, const Job& job,
                  const Resources& resources, const AdaptedModel* adapter = nullptr);

/// What tuned models take beside their rows.
struct TunedNeeds {
  std::uint64_t numbers = 0;      ///< that are kept of a matrix for each of them
  std::int64_t adapter_rank = 0;  ///< largest one of those that are adapters
};

/// What `lox analyze` does, in the same way: `models` are the aligned one, the base and the tuned ones.
Plan plan_analysis(const std::vector<NamedModel>& models, const Job& job, const TunedNeeds& needs,
                   const Resources& resources);

/// Every matrix to edit and every tensor to copy, in the order of the first model. Where and who is not
/// decided yet. Refuses, before they are made, items whose book-keeping does not fit `memory` beside the
/// program.
Plan make_items(const std::vector<NamedModel>& models, const Selection& selection, const SolveOptions& solve,
                const std::optional<std::uint64_t>& memory, const PairRules& rules = {});

/// Which items all ranks solve together. With `automatic`: those whose memory exceeds a rank's, and of the
/// others as many of the longest as make the predicted finishing time shortest, if that gains at least a
/// twentieth: a long item alone at the end would leave the other ranks idle. Items must be sorted by falling
/// local seconds; sets where, and seconds of those sent to the grid.
void choose_grid_items(std::vector<Item>& items, GridUse use, const Resources& resources);

/// How a matrix is solved where it is solved: by the method asked for, unless another one is cheaper.
Method method_for(const Item& item);

/// Deals local items to ranks, longest first to the least loaded one. Returns the longest load in seconds.
double deal(std::vector<Item>& items, int ranks);

}  // namespace lox
