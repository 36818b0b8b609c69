// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/factors.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/pairing.hpp"
#include "lox/plan/plan.hpp"

namespace lox {

/// The models of a landscape item's MatrixRef: the aligned one, the parts of its factors (FactorPart), -1
/// where it has none, and from here on the others.
inline constexpr std::size_t first_other = 1 + factor_parts;

/// What `lox landscape` does: rows of every floating tensor of the models, the aligned one first, in
/// stretches; tensors without factors are one matrix of all their rows. With `targets`, copies of the other
/// tensors. The stretches depend on the models and the number of targets alone, and so do sums over them. All
/// local. `stored_k`: triplets that the store says it has; `k` that are used. Throws Error(bad_input) naming
/// the tensor that a model lacks, or whose shape is another.
Plan plan_landscape(const std::vector<NamedModel>& models, const Checkpoint& store, std::int64_t stored_k,
                    Index k, std::size_t targets, const Resources& resources);

/// What a stretch or a copy costs beside `others` further models.
Cost landscape_cost(const Item& item, std::size_t others, std::size_t targets);

/// Rows of a stretch that are worked on in double at a time.
Index landscape_block(Index cols);

}  // namespace lox
