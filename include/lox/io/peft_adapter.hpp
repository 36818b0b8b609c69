// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/io/peft_config.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lox {

/// A pair of low-rank factors in a LoRA adapter: scale * B A is added to a weight, or to its transpose.
///
/// Experts in one parameter ([E, ..]) have one pair of tensors for all: A is [E r, in] with the rows of an
/// expert together, B is [out, r E] with the columns of a rank together (column j E + e is of expert e).
struct LoraPair {
  std::string module;      ///< without "base_model.model." and the factors' own words
  bool embedding = false;  ///< its words are lora_embedding_A and _B: the transpose is added
  int a = 0;               ///< index of its tensor, [experts * r, in]
  int b = 0;               ///< [out, r * experts]
  std::int64_t r = 0;
  std::int64_t experts = 1;
  double scale = 1;
};

/// A LoRA adapter as PEFT saves it: a folder of adapter_config.json and adapter_model.safetensors.
struct PeftAdapter {
  /// A tensor that has a meaning of its own, by the name that it has in the model.
  struct Named {
    int tensor = 0;
    std::string name;
  };

  Checkpoint table;
  PeftConfig config;
  std::vector<LoraPair> pairs;
  std::vector<Named> whole;        ///< weights of modules (modules_to_save) and biases, as they are to be
  std::vector<Named> lora_biases;  ///< of lora_B: scale times it is added to the module's bias
  std::vector<Named> saved_bases;  ///< weights below a LoRA, which PEFT saves with embeddings
};

/// Whether a folder is an adapter.
bool is_peft_adapter(const fs::path& path);

/// Throws Error(bad_input), naming what is wrong: variants of LoRA whose sum is not W + scale * B A, tensors
/// that belong to nothing, shapes that do not fit.
/// Its weights are adapter_model.safetensors alone, which PEFT reads.
PeftAdapter open_peft_adapter(const fs::path& path);
/// The same of what another rank has read. `table`: of the folder; `config`: text of its adapter_config.json.
PeftAdapter make_peft_adapter(Checkpoint table, std::string config);

/// Names of *.safetensors in the adapter's folder that are no part of it.
std::vector<std::string> unused_weights(const PeftAdapter& adapter);

/// Gives every pair its rank, experts and scale by the name of its module alone. Throws Error(bad_input)
/// where only the base model tells which of a module's parameters a pair is of, and the ranks or scales of
/// these differ.
void fit_without_base(PeftAdapter& adapter);

}  // namespace lox
