// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <string>

namespace lox {

/// Gives the experts of the base the layout that they have in the aligned model, where that is another one of
/// these, as transformers stores them:
///
///     separate    P.experts.N.gate_proj.weight (or w1) [I, H], up_proj (w3) [I, H], down_proj (w2) [H, I]
///     fused       P.experts.gate_up_proj [E, 2 I, H], rows of gate before up; P.experts.down_proj [E, H, I]
///     transposed  the same names, [E, H, 2 I] and [E, I, H]
///
/// Nothing is read: the base's tensors become views (io/view) and stacks of its own (io/parts). A layer that
/// does not fit, whose layout its shapes do not tell, or that is quantised stays as it is. Returns what a
/// user is to be told, empty if nothing has changed.
std::string match_experts(Checkpoint& base, const Checkpoint& aligned);

}  // namespace lox
