// SPDX-License-Identifier: MIT
#pragma once
// LoRA adapters on disk, as PEFT saves them, for the tests of this folder.
#include "io/models.hpp"
#include <nlohmann/json.hpp>

namespace lox::testing {

/// Tensors by name.
using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// A safetensors file of zeros.
inline std::string zeros(const Shapes& shapes, const std::string& dtype = "F32", std::size_t width = 4) {
  nlohmann::ordered_json header;
  std::size_t end = 0;
  for (const auto& [name, shape] : shapes) {
    std::size_t bytes = width;
    for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
    header[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  return framed(header.dump(), std::string(end, '\0'));
}

inline nlohmann::json lora_config() {
  return {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}};
}

/// Factors of rank 2 of a linear "m.q_proj" [5, 3].
inline Shapes lora_shapes() {
  return {{"base_model.model.m.q_proj.lora_A.weight", {2, 3}},
          {"base_model.model.m.q_proj.lora_B.weight", {5, 2}}};
}

inline void put_adapter(const fs::path& folder, const nlohmann::json& config, const Shapes& shapes) {
  put(folder / "adapter_config.json", config.dump());
  put(folder / "adapter_model.safetensors", zeros(shapes));
}

}  // namespace lox::testing
