// SPDX-License-Identifier: MIT
#include "lox/io/peft_adapter.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"
#include "lox/io/safetensors_header.hpp"

#include <array>
#include <cmath>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>
#include <re2/re2.h>

namespace lox {
namespace {

using nlohmann::json;

constexpr const char* config_file = "adapter_config.json";
constexpr const char* weights_file = "adapter_model.safetensors";
constexpr std::uint64_t longest_config = std::uint64_t{16} << 20;
constexpr std::string_view prefix = "base_model.model.";

/// What a configuration says that makes it another thing than W + scale * B A.
std::string what_it_is_else(const json& config) {
  const auto truth = [&](const char* key) {
    const json value = config.value(key, json());
    return value.is_boolean() && value.get<bool>();
  };
  const auto filled = [&](const char* key) {
    const json value = config.value(key, json());
    return !value.is_null() && !(value.is_structured() && value.empty());
  };
  const json type = config.value("peft_type", json());
  if (type != "LORA") return "its peft_type is " + type.dump() + ", not LORA";
  if (truth("use_dora")) return "it is a DoRA (use_dora)";
  if (filled("alora_invocation_tokens")) return "it is an activated LoRA (alora_invocation_tokens)";
  if (filled("layer_replication")) return "it replicates layers (layer_replication)";
  if (filled("trainable_token_indices")) return "it trains single tokens (trainable_token_indices)";
  const json start = config.value("init_lora_weights", json());
  if (!start.is_string()) return "";
  const auto word = start.get<std::string>();
  for (const char* const changes_base : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
    if (word.starts_with(changes_base)) {
      return fmt::format(
          "its start '{}' changed the base; let PEFT save it as a plain LoRA "
          "(path_initial_model_for_weight_conversion)",
          word);
    }
  }
  return "";
}

/// A value by the first key, a regular expression, that the end of a module's name matches, as PEFT does.
double by_pattern(const json& config, const char* key, const std::string& module, double otherwise) {
  const json patterns = config.value(key, json::object());
  if (!patterns.is_object()) return otherwise;
  for (const auto& [pattern, value] : patterns.items()) {
    const RE2 expression("(.*\\.)?(" + pattern + ")", RE2::Quiet);
    if (!expression.ok()) {
      fail(ExitCode::bad_input, "its {} has '{}', which is no regular expression: {}", key, pattern,
           expression.error());
    }
    if (module == pattern || RE2::FullMatch(module, expression)) return value.get<double>();
  }
  return otherwise;
}

/// Which factor a tensor is, and of which module.
struct Factor {
  std::string module;
  bool is_a = false;
};
std::optional<Factor> factor_of(std::string name) {
  if (name.starts_with(prefix)) name.erase(0, prefix.size());
  constexpr std::array<std::pair<std::string_view, bool>, 4> endings{{{".lora_A.weight", true},
                                                                      {".lora_B.weight", false},
                                                                      {".lora_embedding_A", true},
                                                                      {".lora_embedding_B", false}}};
  for (const auto& [ending, is_a] : endings) {
    if (name.ends_with(ending)) return Factor{name.substr(0, name.size() - ending.size()), is_a};
  }
  return std::nullopt;
}

bool is_whole(const std::string& name, const TensorInfo& tensor) {
  return name.ends_with(".bias") || name.find(".modules_to_save.") != std::string::npos ||
         tensor.shape.size() == 1 || name.ends_with(".weight");
}

void fit(PeftAdapter& adapter, const json& config) {
  const auto rank = config.at("r").get<double>();
  const auto alpha = config.at("lora_alpha").get<double>();
  const json rslora = config.value("use_rslora", json(false));
  const bool root = rslora.is_boolean() && rslora.get<bool>();
  for (LoraPair& pair : adapter.pairs) {
    const TensorInfo& a = adapter.table.tensors[static_cast<std::size_t>(pair.a)];
    const TensorInfo& b = adapter.table.tensors[static_cast<std::size_t>(pair.b)];
    const double r = by_pattern(config, "rank_pattern", pair.module, rank);
    pair.r = static_cast<std::int64_t>(r);
    const bool fits = a.shape.size() == 2 && b.shape.size() == 2 && pair.r > 0 && a.shape[0] == b.shape[1] &&
                      a.shape[0] % pair.r == 0 && a.dtype == b.dtype && is_editable(a.dtype);
    if (!fits) {
      fail(ExitCode::bad_input, "{}: tensors '{}' {} and '{}' {} are no pair of factors of rank {}",
           adapter.table.path, a.name, shape_text(a.shape), b.name, shape_text(b.shape), pair.r);
    }
    pair.experts = a.shape[0] / pair.r;
    pair.scale = by_pattern(config, "alpha_pattern", pair.module, alpha) / (root ? std::sqrt(r) : r);
    if (!std::isfinite(pair.scale))
      fail(ExitCode::bad_input, "{}: its lora_alpha is no number", adapter.table.path);
  }
}

/// Puts every tensor to its use.
void sort_tensors(PeftAdapter& adapter) {
  std::map<std::string, LoraPair> pairs;
  std::map<std::string, int> halves;
  for (std::size_t i = 0; i < adapter.table.tensors.size(); ++i) {
    const TensorInfo& tensor = adapter.table.tensors[i];
    if (const std::optional<Factor> factor = factor_of(tensor.name)) {
      LoraPair& pair = pairs[factor->module];
      pair.module = factor->module;
      (factor->is_a ? pair.a : pair.b) = static_cast<int>(i);
      halves[factor->module] += factor->is_a ? 1 : 2;
    } else if (is_whole(tensor.name, tensor)) {
      adapter.whole.push_back(static_cast<int>(i));
    } else {
      fail(ExitCode::bad_input, "{}: tensor '{}' is no part of a LoRA that lox knows", adapter.table.path,
           tensor.name);
    }
  }
  for (auto& [module, pair] : pairs) {
    if (halves[module] != 3) {
      fail(ExitCode::bad_input, "{}: module '{}' has one of lora_A and lora_B only", adapter.table.path,
           module);
    }
    adapter.pairs.push_back(std::move(pair));
  }
}

}  // namespace

bool is_peft_adapter(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path / config_file, ignored);
}

PeftAdapter open_peft_adapter(const fs::path& path) {
  if (!fs::exists(path / weights_file)) {
    fail(ExitCode::bad_input, "{}: holds no {}; save the adapter as safetensors first", path, weights_file);
  }
  PeftAdapter adapter;
  adapter.table = open_checkpoint(path);
  const json config = parse_json(read_text(path / config_file, longest_config));
  if (!config.is_object()) fail(ExitCode::bad_input, "{}: is not a JSON object", path / config_file);
  try {
    if (const std::string other = what_it_is_else(config); !other.empty()) {
      fail(ExitCode::bad_input, "{}: {}", path / config_file, other);
    }
    sort_tensors(adapter);
    if (adapter.pairs.empty()) fail(ExitCode::bad_input, "{}: holds no factors of a LoRA", path);
    fit(adapter, config);
  } catch (const json::exception& error) {
    fail(ExitCode::bad_input, "{}: is not what PEFT writes: {}", path / config_file, error.what());
  }
  return adapter;
}

}  // namespace lox
