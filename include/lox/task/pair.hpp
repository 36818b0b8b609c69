// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/plan/job.hpp"
#include "lox/plan/plan.hpp"
#include "lox/run/record.hpp"

namespace lox {

/// The two models that a job reads.
struct Pair {
  Checkpoint base;
  Checkpoint aligned;
};

/// Opens both models; throws Error(bad_input) if one is quantised. Files of weights in another form are left
/// out of the aligned model, with a warning each: an edited model would hand them on without the edit.
Pair open_pair(const Job& job, const Log& log);

/// Throws Error(bad_input) if no matrix of the records differs between the models: nothing was to be done,
/// and that is a mistake of whoever named them.
void refuse_equal_models(const Pair& pair, const std::vector<Record>& records);

/// Opens the aligned model alone, in the same way.
Checkpoint open_aligned(const fs::path& path, const Log& log);

}  // namespace lox
