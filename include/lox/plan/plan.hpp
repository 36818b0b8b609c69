// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "lox/io/checkpoint.hpp"
#include "lox/plan/job.hpp"

namespace lox {

enum class Action { copy, edit };
std::string_view action_name(Action action);

enum class Where { local, grid };
std::string_view where_name(Where where);

/// One piece of work: a tensor to copy, or one matrix to edit (a tensor of more than two dimensions is a batch of them).
struct WorkItem {
  int tensor = 0;           ///< index into the aligned checkpoint's tensors
  std::int64_t matrix = 0;  ///< which one of the batch
  Action action = Action::copy;
  Where where = Where::local;
  Method method = Method::krylov;
  Index rows = 0;
  Index cols = 0;
  int rank = 0;        ///< who does it, if local
  double seconds = 0;  ///< estimate
};

/// Everything that will be done, decided before anything is. A pure function of the two tables, the job and the
/// number of ranks, so every rank computes the same one.
struct Plan {
  std::vector<int> base_of;     ///< for each aligned tensor its index in the base
  std::vector<WorkItem> items;  ///< grid items first, then local ones, longest first
};

/// Pairs the tensors and decides; throws Error(bad_input) naming the tensor that has no partner or does not match.
Plan make_plan(const Checkpoint& base, const Checkpoint& aligned, const Job& job, int ranks);

/// Throws Error(bad_input) if the model is quantised (by its config.json or its dtypes): editing such bytes without
/// their scales would be silently wrong.
void refuse_quantised(const Checkpoint& model);

/// Deals items to ranks, longest first to the least loaded one. Items must be sorted by falling seconds.
void deal(std::vector<WorkItem>& items, int ranks);

}  // namespace lox
