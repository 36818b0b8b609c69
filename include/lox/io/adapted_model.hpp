// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/io/peft_adapter.hpp"

#include <map>
#include <set>
#include <vector>

namespace lox {

/// What an adapter adds to a tensor of the model: scale * B A to a matrix, or to each of a batch of them; to
/// a bias, scale times a vector.
struct LoraUpdate {
  int a = -1;                ///< index of a tensor of the adapter; -1: `b` is added to a bias
  int b = -1;                ///< see LoraPair
  std::int64_t r = 0;        ///< of a bias 1
  std::int64_t experts = 1;  ///< matrices of the tensor
  double scale = 1;
  bool turned = false;  ///< the transpose of B A is added
  bool is_bias() const { return a < 0; }
};

/// The model that a base and an adapter make. Its table is that of the base, but for what the adapter
/// replaces: those tensors, and the tokeniser's files, lie in the adapter's folder. Tensors with an update
/// have the bytes of the base.
struct AdaptedModel {
  PeftAdapter adapter;
  Checkpoint table;                   ///< its files are those of the base, then those of the adapter
  std::map<int, LoraUpdate> updates;  ///< by index of the table's tensors
  std::set<int> replaced;             ///< indices of tensors that the adapter brings whole
  std::vector<std::pair<int, int>>
      saved_bases;  ///< tensor of the adapter, tensor of the table: must be equal
};

/// Finds for every tensor of the adapter its place in the base model. Throws Error(bad_input), naming the
/// tensor, where there is none, or the shapes do not tell what is meant.
AdaptedModel adapt(const Checkpoint& base, PeftAdapter adapter);

/// PEFT saves embeddings below a LoRA: throws Error(bad_input) if they are not those of the base, but for
/// rounding to its dtype.
void check_saved_bases(const AdaptedModel& model);

}  // namespace lox
