// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// One of the model's other files, such as config.json; an empty object if there is none, or if it holds no
/// JSON object.
nlohmann::json read_json_of(const Checkpoint& model, const std::string& name);

/// What config.json says of quantisation.
struct QuantisationConfig {
  bool present = false;
  std::string method;    ///< quant_method, and what format it names
  bool rotated = false;  ///< the weights are stored rotated (a transform_config): codes * scales are not W
  std::vector<std::pair<std::int64_t, std::int64_t>> blocks;  ///< rows and columns that share a scale
};

/// Of a model without config.json, or whose config.json is not JSON, nothing is known.
QuantisationConfig quantisation_of(const Checkpoint& model);

/// Whether the head is the embeddings: tie_word_embeddings of config.json, if it says so or says not.
std::optional<bool> ties_embeddings(const Checkpoint& model);

/// Files that say how a model's weights are stored: config.json, and params.json of Mistral's own format.
inline constexpr std::array<const char*, 2> config_files{"config.json", "params.json"};

/// One of them once the model's weights are BF16: no quantization_config (or Mistral's quantization), and
/// torch_dtype (or dtype) bfloat16. Nothing if there is no such file. Throws Error(bad_input) if it is not
/// JSON.
std::optional<std::string> config_of_bf16(const Checkpoint& model, const std::string& name);

}  // namespace lox
