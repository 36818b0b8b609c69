// SPDX-License-Identifier: MIT
#pragma once
#include <span>
#include <string_view>

namespace lox {

/// Where in a model some tensors are.
enum class Part {
  start,   ///< before the layers
  layer,   ///< in each layer
  dense,   ///< in layers without experts
  sparse,  ///< in layers with experts
  mtp,     ///< in layers that predict further tokens, beside what a layer has
  end,     ///< after the layers
  head     ///< after the layers, where the head is not the embeddings
};

/// Tensors of one part, a line each: `NAME EXTENT.. [F32] [*]`. An extent is a product of numbers and of the
/// sizes of a shape: H hidden, I intermediate, N heads, G heads of keys and values, D a head's size, V
/// vocabulary, E experts, M an expert's intermediate size. F32: the dtype, else BF16. *: a matrix that FP8
/// models of this kind store as codes and scales. Where names have {e} or {v}, all lines are repeated for
/// each expert, or each layer of the vision tower.
struct Block {
  Part part;
  std::string_view lines;
};

/// How the tensors of a kind of model are called, in the order of its files, and what config.json says of it.
struct Architecture {
  std::string_view model_type;
  std::string_view class_name;
  std::string_view layers;  ///< what their names begin with, before the layer's number
  std::span<const Block> blocks;
  std::string_view experts_key = {};  ///< their number in config.json
  std::string_view config = "{}";     ///< what is the same for all sizes
};

/// By its model_type, which must be one that a shape names.
const Architecture& architecture(std::string_view model_type);

/// Of Gemma's vision tower.
inline constexpr int vision_layers = 27;

}  // namespace lox
