// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/safetensors_header.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lox {

/// Bytes of tensors in one shard where lox decides (decimal, as the Hugging Face libraries do).
inline constexpr std::uint64_t shard_limit = 5'000'000'000;
inline constexpr const char* index_name = "model.safetensors.index.json";

/// Shards of at most `limit` bytes of tensors each, named model.safetensors or
/// model-0000i-of-0000n.safetensors. Filled in the order given; inside a shard widest dtype first, then by
/// name, so that every tensor is aligned.
std::vector<Shard> make_shards(const std::vector<TensorInfo>& tensors, std::uint64_t limit);

/// Where each of `tensors` lies if `shards` are files 0, 1, ...: in the order of `tensors`.
/// Throws Error(internal) unless the shards hold exactly these tensors, with these dtypes and shapes.
std::vector<Extent> place_tensors(const std::vector<TensorInfo>& tensors, const std::vector<Shard>& shards);

/// The text of model.safetensors.index.json for these shards.
std::string make_safetensors_index(const std::vector<Shard>& shards);

/// Tensor -> shard, in file order, from the text of an index. `file` is only for the error texts. Throws
/// Error(bad_input), also for shard names that leave the directory.
std::vector<std::pair<std::string, std::string>> parse_safetensors_index(std::string_view text,
                                                                         const std::string& file);

}  // namespace lox
