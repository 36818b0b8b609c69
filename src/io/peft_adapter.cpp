// SPDX-License-Identifier: MIT
#include "lox/io/peft_adapter.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"
#include "lox/io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <nlohmann/json.hpp>
#include <re2/re2.h>

namespace lox {
namespace {

using nlohmann::json;

constexpr const char* config_file = "adapter_config.json";
constexpr const char* weights_file = "adapter_model.safetensors";
constexpr std::uint64_t longest_config = std::uint64_t{16} << 20;
constexpr std::string_view prefix = "base_model.model.";
constexpr std::string_view wrapped = ".base_layer";

bool truth(const json& config, const char* key) {
  const json value = config.value(key, json());
  return value.is_boolean() && value.get<bool>();
}

bool filled(const json& config, const char* key) {
  const json value = config.value(key, json());
  return !value.is_null() && !(value.is_boolean() && !value.get<bool>()) &&
         !(value.is_structured() && value.empty());
}

/// What a configuration says that makes it another thing than W + scale * B A.
std::string what_it_is_else(const json& config) {
  const json type = config.value("peft_type", json());
  if (type != "LORA") return "its peft_type is " + type.dump() + ", not LORA";
  constexpr std::array<std::pair<const char*, const char*>, 10> others{{
      {"use_dora", "it is a DoRA"},
      {"alora_invocation_tokens", "it is an activated LoRA"},
      {"layer_replication", "it replicates layers"},
      {"trainable_token_indices", "it trains single tokens"},
      {"use_qalora", "it is a QA-LoRA"},
      {"use_bdlora", "it is a block-diagonal LoRA"},
      {"arrow_config", "it routes between adapters"},
      {"kasa_config", "it changes the base"},
      {"monteclora_config", "it is a MonteCLoRA"},
      {"megatron_config", "its layers are Megatron's"},
  }};
  for (const auto& [key, what] : others) {
    if (filled(config, key)) return fmt::format("{} ({})", what, key);
  }
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

/// By the name of the base model, which is all that the configuration has of it.
bool names_quantised(const std::string& base) {
  static const RE2 words(
      "(?i)(^|[^a-z0-9])(bnb|[48]-?bit|int[48]|fp[48]|nf4|gptq|awq|mxfp4|nvfp4)([^a-z0-9]|$)");
  return RE2::PartialMatch(base, words);
}

using Pattern = std::vector<std::pair<std::string, double>>;

/// In the order of the file: the first that fits counts.
Pattern read_pattern(const nlohmann::ordered_json& config, const char* key) {
  Pattern patterns;
  const nlohmann::ordered_json found = config.value(key, nlohmann::ordered_json());
  if (!found.is_object()) return patterns;
  for (const auto& [pattern, value] : found.items()) {
    const RE2 expression("(.*\\.)?(" + pattern + ")", RE2::Quiet);
    if (!expression.ok()) {
      fail(ExitCode::bad_input, "its {} has '{}', which is no regular expression: {}", key, pattern,
           expression.error());
    }
    patterns.emplace_back(pattern, value.get<double>());
  }
  return patterns;
}

/// A value by the first key, a regular expression, that the end of a name matches, as PEFT does.
double by_pattern(const Pattern& patterns, const std::string& name, double otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (RE2::FullMatch(name, RE2("(.*\\.)?(" + pattern + ")", RE2::Quiet))) return value;
  }
  return otherwise;
}

void read_config(const json& config, PeftAdapter& adapter) {
  adapter.scales.r = config.at("r").get<double>();
  adapter.scales.alpha = config.at("lora_alpha").get<double>();
  adapter.scales.root = truth(config, "use_rslora");
  const auto in_order = nlohmann::ordered_json::parse(adapter.config);
  adapter.scales.rank_pattern = read_pattern(in_order, "rank_pattern");
  adapter.scales.alpha_pattern = read_pattern(in_order, "alpha_pattern");
  adapter.fan_in_fan_out = truth(config, "fan_in_fan_out");
  if (const json base = config.value("base_model_name_or_path", json()); base.is_string()) {
    adapter.base_name = base.get<std::string>();
    adapter.on_quantised = names_quantised(adapter.base_name);
  }
  if (const json names = config.value("target_parameters", json()); names.is_array()) {
    adapter.target_parameters = names.get<std::vector<std::string>>();
  }
}

/// A name without an ending, if it has that.
bool cut(std::string& name, std::string_view ending) {
  if (!name.ends_with(ending)) return false;
  name.erase(name.size() - ending.size());
  return true;
}

/// Takes the wrappers' words away; how many there were.
int unwrap(std::string& module) {
  int depth = 0;
  while (cut(module, wrapped)) ++depth;
  return depth;
}

/// Puts every tensor to its use.
class Sorter {
 public:
  explicit Sorter(PeftAdapter& adapter) : adapter_(adapter) {}

  void sort() {
    for (std::size_t i = 0; i < adapter_.table.tensors.size(); ++i) {
      std::string name = adapter_.table.tensors[i].name;
      if (name.starts_with(prefix)) name.erase(0, prefix.size());
      if (take_factor(name, static_cast<int>(i)) || take_whole(name, static_cast<int>(i))) continue;
      fail(ExitCode::bad_input, "{}: tensor '{}' is no part of a LoRA that lox knows", adapter_.table.path,
           adapter_.table.tensors[i].name);
    }
    for (auto& [key, half] : halves_) {
      if (half.a < 0 || half.b < 0) {
        fail(ExitCode::bad_input, "{}: module '{}' has one of lora_A and lora_B only", adapter_.table.path,
             half.module);
      }
      adapter_.pairs.push_back(std::move(half));
    }
  }

 private:
  bool take_factor(std::string name, int tensor) {
    struct Ending {
      std::string_view word;
      bool is_a;
      bool embedding;
    };
    constexpr std::array<Ending, 4> endings{{{".lora_A.weight", true, false},
                                             {".lora_B.weight", false, false},
                                             {".lora_embedding_A", true, true},
                                             {".lora_embedding_B", false, true}}};
    for (const Ending& ending : endings) {
      if (!cut(name, ending.word)) continue;
      const auto [found, fresh] = halves_.try_emplace({name, ending.embedding});
      LoraPair& pair = found->second;
      if (fresh) pair.a = pair.b = -1;
      (ending.is_a ? pair.a : pair.b) = tensor;
      pair.embedding = ending.embedding;
      (void)unwrap(name);  // parameters of one module have wrappers around wrappers
      pair.module = name;
      return true;
    }
    return false;
  }

  bool take_whole(std::string name, int tensor) {
    const std::size_t dimensions = adapter_.table.tensors[static_cast<std::size_t>(tensor)].shape.size();
    if (std::string module = name; cut(module, ".lora_B.bias")) {
      (void)unwrap(module);
      adapter_.lora_biases.push_back({tensor, module});
      return true;
    }
    if (name.find("lora_") != std::string::npos) return false;
    constexpr std::string_view saved = ".modules_to_save.";  // older versions of PEFT
    if (const std::size_t at = name.find(saved); at != std::string::npos) name.replace(at, saved.size(), ".");
    const bool bias = name.ends_with(".bias");
    if (!bias && !name.ends_with(".weight") && dimensions != 1) return false;
    std::string module = name;
    const std::string_view word = bias ? ".bias" : ".weight";
    const bool below = cut(module, word) && unwrap(module) > 0;
    if (below) name = module + std::string(word);
    (below && !bias ? adapter_.saved_bases : adapter_.whole).push_back({tensor, name});
    return true;
  }

  PeftAdapter& adapter_;
  std::map<std::pair<std::string, bool>, LoraPair> halves_;
};

/// The names by which ranks and scales of a pair may be told: its module's, or its parameters'.
std::vector<std::string> names_of(const PeftAdapter& adapter, const LoraPair& pair) {
  std::vector<std::string> names;
  for (const std::string& parameter : adapter.target_parameters) {
    const std::size_t point = parameter.rfind('.');
    const std::string module = point == std::string::npos ? "" : parameter.substr(0, point);
    if (pair.module != module && !pair.module.ends_with("." + module)) continue;
    names.push_back(pair.module + "." + parameter.substr(point + 1));
  }
  if (names.empty()) names.push_back(pair.module);
  return names;
}

}  // namespace

std::int64_t LoraScales::rank_of(const std::string& name) const {
  return static_cast<std::int64_t>(by_pattern(rank_pattern, name, r));
}

double LoraScales::scale_of(const std::string& name) const {
  const double rank = by_pattern(rank_pattern, name, r);
  return by_pattern(alpha_pattern, name, alpha) / (root ? std::sqrt(rank) : rank);
}

void fit_without_base(PeftAdapter& adapter) {
  for (LoraPair& pair : adapter.pairs) {
    const std::vector<std::string> names = names_of(adapter, pair);
    pair.r = adapter.scales.rank_of(names.front());
    pair.scale = adapter.scales.scale_of(names.front());
    for (const std::string& name : names) {
      if (adapter.scales.rank_of(name) == pair.r && adapter.scales.scale_of(name) == pair.scale) continue;
      fail(ExitCode::bad_input,
           "{}: ranks or scales of the parameters of '{}' differ, and which one its tensors are of only the "
           "base "
           "model tells; give it (--base), and let the output be a checkpoint",
           adapter.table.path, pair.module);
    }
    const TensorInfo& a = adapter.table.tensors[static_cast<std::size_t>(pair.a)];
    const TensorInfo& b = adapter.table.tensors[static_cast<std::size_t>(pair.b)];
    if (pair.r <= 0 || a.shape[0] % pair.r != 0) {
      fail(ExitCode::bad_input, "{}: tensors '{}' {} and '{}' {} are no pair of factors of rank {}",
           adapter.table.path, a.name, shape_text(a.shape), b.name, shape_text(b.shape), pair.r);
    }
    pair.experts = a.shape[0] / pair.r;
  }
}

bool is_peft_adapter(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path / config_file, ignored);
}

PeftAdapter make_peft_adapter(Checkpoint table, std::string text) {
  PeftAdapter adapter;
  adapter.table = std::move(table);
  adapter.config = std::move(text);
  const fs::path& path = adapter.table.path;
  const json config = parse_json(adapter.config);
  if (!config.is_object()) fail(ExitCode::bad_input, "{}: is not a JSON object", path / config_file);
  try {
    if (const std::string other = what_it_is_else(config); !other.empty()) {
      fail(ExitCode::bad_input, "{}: {}", path / config_file, other);
    }
    read_config(config, adapter);
  } catch (const json::exception& error) {
    fail(ExitCode::bad_input, "{}: is not what PEFT writes: {}", path / config_file, error.what());
  }
  Sorter(adapter).sort();
  if (adapter.pairs.empty()) fail(ExitCode::bad_input, "{}: holds no factors of a LoRA", path);
  for (const LoraPair& pair : adapter.pairs) {
    const TensorInfo& a = adapter.table.tensors[static_cast<std::size_t>(pair.a)];
    const TensorInfo& b = adapter.table.tensors[static_cast<std::size_t>(pair.b)];
    const bool fits = a.shape.size() == 2 && b.shape.size() == 2 && a.elements() > 0 && b.elements() > 0 &&
                      a.shape[0] == b.shape[1] && a.dtype == b.dtype && is_editable(a.dtype);
    if (!fits) {
      fail(ExitCode::bad_input, "{}: tensors '{}' {} and '{}' {} are no pair of factors of any rank", path,
           a.name, shape_text(a.shape), b.name, shape_text(b.shape));
    }
    if (!std::isfinite(adapter.scales.scale_of(pair.module))) {
      fail(ExitCode::bad_input, "{}: its lora_alpha is no number", path);
    }
  }
  return adapter;
}

PeftAdapter open_peft_adapter(const fs::path& path) {
  if (!fs::exists(path / weights_file)) {
    fail(ExitCode::bad_input, "{}: holds no {}; save the adapter as safetensors first", path, weights_file);
  }
  return make_peft_adapter(open_checkpoint(path), read_text(path / config_file, longest_config));
}

}  // namespace lox
