// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/io/adapted_model.hpp"
#include "lox/plan/job.hpp"
#include "lox/plan/plan.hpp"
#include "lox/run/record.hpp"

#include <optional>

#include <nlohmann/json.hpp>

namespace lox {

/// The two models that a job reads. The aligned one may be what an adapter makes of the base.
struct Pair {
  Checkpoint base;
  Checkpoint aligned;  ///< of an adapter: the table of the model that it makes
  std::optional<AdaptedModel> adapter;

  const AdaptedModel* made_by() const { return adapter ? &*adapter : nullptr; }
  /// What the job was given as the aligned model.
  const Checkpoint& given() const { return adapter ? adapter->adapter.table : aligned; }
};

/// Rank 0's adapter of a model that all ranks have, on all ranks; nothing if it has none. Collective.
void broadcast(const Comm& comm, const Checkpoint& base, std::optional<AdaptedModel>& adapter);

/// Rank 0's pair, on all ranks. Collective.
void broadcast(const Comm& comm, Pair& pair);

/// What a report tells of an adapter that a job was given.
nlohmann::ordered_json describe(const AdaptedModel& model);

/// Opens both models; throws Error(bad_input) if they are one. FP8 tensors become BF16 ones whose values are
/// decoded when they are read; throws Error(bad_input) if one is quantised in another form
/// (io/quantised_model). Files of weights in another form are left out of the aligned model, with a warning
/// each: an edited model would hand them on without the edit.
Pair open_pair(const Job& job, const Log& log);

/// Where a coef adds nothing to a model.
void warn_of_no_edit(double coef, const fs::path& model, const Log& log);

/// Throws Error(usage) if an adapter is to be paired by rules for two models.
void refuse_pair_rules(const Job& job);

/// Warns of each file of weights beside an adapter that is no part of it.
void warn_of_unused_weights(const PeftAdapter& adapter, const Log& log);

/// Leaves files of weights in another form out of a model, with a warning each.
void drop_foreign_weights(Checkpoint& model, const Log& log);

/// Calls the base's tensors as the aligned model's, by the job's rules, and tells what was guessed and what
/// is left out (plan/matching).
void match_models(Checkpoint& base, const Checkpoint& aligned, const Job& job, const Log& log);

/// Throws Error(bad_input) if no matrix of the records differs between the models: nothing was to be done,
/// and that is a mistake of whoever named them.
void refuse_equal_models(const Pair& pair, const std::vector<Record>& records);

/// Opens the aligned model alone, in the same way.
Checkpoint open_aligned(const fs::path& path, const Log& log);

}  // namespace lox
