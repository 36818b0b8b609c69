// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace lox {

/// A pair of low-rank factors in a LoRA adapter: scale * B A is added to a weight, or to its transpose.
///
/// Experts in one parameter ([E, ..]) have one pair of tensors for all: A is [E r, in] with the rows of an
/// expert together, B is [out, r E] with the columns of a rank together (column j E + e is of expert e).
struct LoraPair {
  std::string module;  ///< without "base_model.model." and the factors' own words
  int a = 0;           ///< index of its tensor, [experts * r, in]
  int b = 0;           ///< [out, r * experts]
  std::int64_t r = 0;
  std::int64_t experts = 1;
  double scale = 1;
};

/// A LoRA adapter as PEFT saves it: a folder of adapter_config.json and adapter_model.safetensors.
struct PeftAdapter {
  Checkpoint table;
  std::vector<LoraPair> pairs;
  std::vector<int> whole;  ///< tensors that hold a module's weights themselves (modules_to_save), or a bias
  bool on_quantised = false;  ///< the configuration tells that it was trained beside a quantised base
};

/// Whether a folder is an adapter.
bool is_peft_adapter(const fs::path& path);

/// Throws Error(bad_input), naming what is wrong: variants of LoRA whose sum is not W + scale * B A, tensors
/// that belong to nothing, shapes that do not fit.
PeftAdapter open_peft_adapter(const fs::path& path);

}  // namespace lox
