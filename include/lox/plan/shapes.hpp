// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <string>
#include <vector>

namespace lox {

/// The sizes of a decoder-only transformer as Hugging Face's configuration names them.
struct ModelShape {
  std::string name;
  std::int64_t hidden;
  std::int64_t intermediate;
  std::int64_t layers;
  std::int64_t heads;
  std::int64_t key_value_heads;
  std::int64_t vocabulary;
  std::int64_t experts = 0;     ///< 0: a dense feed-forward part
  bool attention_bias = false;  ///< biases on q, k, v
};

/// Every shape lox knows, by name.
const std::vector<ModelShape>& model_shapes();
/// Throws Error(usage) listing the known names.
const ModelShape& model_shape(const std::string& name);

/// The tensors of the first `layers` layers of such a model (all if negative), BF16, in the order its files
/// have them. Extents are empty.
std::vector<TensorInfo> model_tensors(const ModelShape& shape, std::int64_t layers);

/// A config.json for it.
std::string model_config(const ModelShape& shape, std::int64_t layers);

}  // namespace lox
