// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <string>
#include <vector>

namespace lox {

/// Value of the root attribute lox_format in files of the layout that lox writes.
inline constexpr int hdf5_layout_version = 1;

/// The link names for tensors or files of these (different) names, all different: a name itself where HDF5
/// can hold it, else percent-encoded, with '%' at its end as often as needed to differ from the other names.
std::vector<std::string> hdf5_link_names(const std::vector<std::string>& names);

/// The text of /layout: what a byte-identical way back to safetensors needs. `made_up`: the shards were never
/// files.
std::string hdf5_layout_text(const std::vector<Shard>& shards, bool made_up);

/// Gives a table read from HDF5 the shards of its /layout, and its tensors their order there. Throws
/// Error(bad_input) unless both name the same tensors.
void apply_hdf5_layout(const std::string& text, Checkpoint& model);

}  // namespace lox
