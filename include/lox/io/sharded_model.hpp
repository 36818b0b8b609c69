// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <map>
#include <string>

namespace lox {

/// What files of a model say of the parts in them, by number of the file: the text of DCP_SHARDING_INFO, as
/// torch.distributed.checkpoint's HuggingFaceStorageWriter leaves it (docs/formats.md).
using ShardingInfos = std::map<int, std::string>;

/// The model whose tensors lie in parts: `model` has one tensor for each part, as its files have. Tensors
/// come in the order in which they are first found; those that are whole have a plain extent. The layout in
/// shards is to be made anew, an index is left out, and the files in .hf_metadata are the model's. Throws
/// Error(bad_input), naming file and tensor, for parts that overlap, leave holes, or differ in dtype or
/// number of dimensions, for what is no sharding info, and for embeddings that lack rows that config.json
/// tells of.
Checkpoint assembled(Checkpoint model, const ShardingInfos& infos);

/// Throws Error(bad_input) for a file that by its name is one rank's of several: by itself it is no model.
void refuse_one_of_many(const fs::path& file);

}  // namespace lox
