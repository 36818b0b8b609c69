// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/factors.hpp"
#include "lox/plan/cost.hpp"
#include "lox/plan/forecast.hpp"
#include "lox/plan/plan.hpp"

#include <functional>
#include <vector>

namespace lox {

/// What `lox apply` does: rows of every matrix that the store has factors of, in stretches of some hundred
/// megabytes that begin where a block of the arithmetic does, and copies of the other tensors. All local.
/// `stored_k`: triplets that the store says it has; `k`: the largest rank of the `targets`. Throws
/// Error(bad_input) naming the tensor whose factors have no matrix in the aligned model, or another shape.
Plan plan_apply(const Checkpoint& aligned, const Checkpoint& store, std::int64_t stored_k, Index k,
                std::size_t targets, const Resources& resources);

/// The rows of a matrix in stretches of `bytes`, if a row is not longer, that begin where a block of the
/// arithmetic does: edited one after the other they get the bits that all get at once.
std::vector<RowRange> stretches(DType dtype, Index rows, Index cols, std::uint64_t bytes = stretch_bytes);

/// The same, of `at_once` rows each.
std::vector<RowRange> ranges_of(Index rows, Index at_once);

/// Throws Error(bad_input) unless a store of k triplets holds all parts of this tensor's factors in their
/// shapes.
void check_factors(const Checkpoint& store, std::int64_t k, const TensorInfo& tensor,
                   const FactorIndices& parts);

/// Appends an item for each of these rows of each of so many matrices like that of `item`.
void add_stretches(Item item, std::int64_t matrices, const std::vector<RowRange>& ranges,
                   std::vector<Item>& items);

/// Deals stretches and copies to ranks by what they cost. Throws Error(bad_input) naming the tensor whose
/// stretches do not fit a rank.
void deal_stretches(Plan& plan, const Checkpoint& aligned, const Resources& resources,
                    const std::function<Cost(const Item&)>& cost_of);

/// What a stretch or a copy costs, in a model of `targets` outputs.
Cost apply_cost(const Item& item, std::size_t targets, double bandwidth = rank_bandwidth);

/// What all of it costs.
Forecast forecast_apply(const Plan& plan, const Checkpoint& aligned, std::size_t targets, int ranks,
                        double bandwidth = rank_bandwidth);

}  // namespace lox
