// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/job.hpp"
#include "lox/plan/pairing.hpp"

#include <optional>
#include <string>
#include <vector>

namespace lox {

/// Calls the base's tensors as the aligned model does: first by the rules (--rename), then, where selected
/// tensors of one model are not in the other, by what is known of such pairs, if all else matches then: the
/// prefixes of language models that are part of a larger one, and a head that is tied to the embeddings and
/// stored once or twice. `base_is_tied`: what its config.json says of that. Returns what a user is to be
/// told, a line each. Throws Error(usage) for a rule that is none, Error(bad_input) if one renames nothing,
/// or two tensors alike.
std::vector<std::string> match_names(Checkpoint& base, const Checkpoint& aligned,
                                     std::optional<bool> base_is_tied, const Selection& selection,
                                     const PairRules& rules);

/// Tensors that only one of the models has, and others that are copied although they have matrices: a line
/// each kind.
std::vector<std::string> tell_unpaired(const Checkpoint& base, const Checkpoint& aligned,
                                       const Selection& selection, const PairRules& rules);

/// Throws Error(usage) for a rule that is none.
void check_rename(const std::vector<std::string>& rules);

}  // namespace lox
