// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <string>
#include <vector>

namespace lox {

/// The sizes of a decoder-only transformer as Hugging Face's configuration names them.
struct ModelShape {
  std::string name;
  std::string_view model_type;  ///< how its tensors are called (plan/architectures)
  std::int64_t hidden;
  std::int64_t intermediate;
  std::int64_t layers;
  std::int64_t heads;
  std::int64_t key_value_heads;
  std::int64_t vocabulary;
  std::int64_t head_size = 0;  ///< 0: hidden / heads
  bool tied = false;           ///< the head is the embeddings
  std::int64_t experts = 0;    ///< 0: a dense feed-forward part
  std::int64_t expert_intermediate = 0;
  std::int64_t dense_layers = 0;  ///< the first ones, which have no experts
  std::int64_t mtp_layers = 0;    ///< after the others: they predict further tokens
};

/// Every shape lox knows, by name.
const std::vector<ModelShape>& model_shapes();
/// Throws Error(usage) listing the known names.
const ModelShape& model_shape(const std::string& name);

/// The least square of weights that shares a scale in models that are quantised to FP8.
inline constexpr std::int64_t fp8_block = 128;
inline constexpr const char* scale_ending = "_scale_inv";

/// The tensors of the first `layers` layers of such a model (all if negative), BF16, in the order its files
/// have them. `fp8`: matrices of the layers are F8_E4M3, each followed by the scales of its blocks, as
/// DeepSeek-V3 has them. Only the place of extents is open.
std::vector<TensorInfo> model_tensors(const ModelShape& shape, std::int64_t layers, bool fp8 = false);

/// A config.json for it.
std::string model_config(const ModelShape& shape, std::int64_t layers, bool fp8 = false);

}  // namespace lox
