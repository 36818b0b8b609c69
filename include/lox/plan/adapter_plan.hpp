// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/adapted_model.hpp"
#include "lox/plan/plan.hpp"

namespace lox {

/// Whether a matrix whose factors are known is done in stretches of rows.
enum class Cut { none, stretches };

/// Makes the items of a pair of models those of a base and an adapter: matrices with factors are done by
/// these, excluded ones and biases too, which are only merged; tensors that the adapter replaces stay as they
/// are; the others are copied. Throws Error(bad_input) if nothing is left to harden.
void use_adapter(const AdaptedModel& model, Cut cut, Plan& plan);

}  // namespace lox
