// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

namespace lox {

/// The model as it is calculated with and written: tensors that lie on disk as FP8 codes and scales are
/// BF16 tensors with their `quantised` set, the scales are no tensors any more, config.json says so, and the
/// layout in shards is to be made anew. A model that is not quantised comes back as it is. Throws
/// Error(bad_input), naming tensor, form and tool, for scales that are missing or fit no tensor, and for
/// forms that lox does not read: editing their bytes would be silently wrong.
Checkpoint dequantised(Checkpoint model);

/// Tensors that are quantised.
std::int64_t count_quantised(const Checkpoint& model);

}  // namespace lox
