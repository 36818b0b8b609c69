// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/io/safetensors.hpp"

namespace lox {

/// A model in safetensors form: a directory of *.safetensors (with or without index) and other files, or one
/// file. Which files count is said in docs/formats.md. Throws Error(bad_input).
Checkpoint open_safetensors(const fs::path& path);

/// A folder whose weights are the file `name` alone; all else in it, other *.safetensors too, are other
/// files. Throws Error(bad_input).
Checkpoint open_weights_file(const fs::path& folder, const std::string& name);

/// See create_checkpoint; `format` is safetensors_file or safetensors_directory.
/// Shards that have to be made up hold at most `limit` bytes.
Checkpoint create_safetensors(const Checkpoint& like, const fs::path& path, Format format,
                              Space space = Space::reserved, std::uint64_t limit = shard_limit);

}  // namespace lox
