// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

namespace lox {

/// Throws Error(bad_input) if the model is quantised (by its config.json or its dtypes): editing such bytes
/// without their scales would be silently wrong.
void refuse_quantised(const Checkpoint& model);

}  // namespace lox
