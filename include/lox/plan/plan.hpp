// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/plan/job.hpp"
#include "lox/plan/work_item.hpp"

#include <cstdint>
#include <vector>

namespace lox {

/// What a job may use.
struct Resources {
  int ranks = 1;
  std::uint64_t memory = 0;  ///< bytes a rank; 0: without limit
};

/// Everything that will be done, decided before anything is. A pure function of the two tables, the job and
/// the number of ranks, so every rank computes the same one.
struct Plan {
  std::vector<int> base_of;     ///< for each aligned tensor its index in the base
  std::vector<WorkItem> items;  ///< grid items first, then local ones, longest first
};

/// Pairs the tensors and decides; throws Error(bad_input) naming the tensor that has no partner, does not
/// match, or does not fit the memory even on a grid.
Plan make_plan(const Checkpoint& base, const Checkpoint& aligned, const Job& job, const Resources& resources);

/// Throws Error(bad_input) if the model is quantised (by its config.json or its dtypes): editing such bytes
/// without their scales would be silently wrong.
void refuse_quantised(const Checkpoint& model);

/// Which items all ranks solve together. With `automatic`: those whose memory exceeds a rank's, and of the
/// others as many of the longest as make the predicted finishing time shortest, if that gains at least a
/// twentieth: a long item alone at the end would leave the other ranks idle. Items must be sorted by falling
/// local seconds; sets where, and seconds of those sent to the grid.
void choose_grid_items(std::vector<WorkItem>& items, GridUse use, const Resources& resources);

/// How a matrix is solved where it is solved: by the method asked for, unless another one is cheaper.
Method method_for(const WorkItem& item);

/// Deals local items to ranks, longest first to the least loaded one. Returns the longest load in seconds.
double deal(std::vector<WorkItem>& items, int ranks);

}  // namespace lox
