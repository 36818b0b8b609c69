// SPDX-License-Identifier: MIT
#include "lox/io/peft_config.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>
#include <re2/re2.h>

namespace lox {
namespace {

using Json = nlohmann::ordered_json;  // of patterns the first that fits counts

constexpr std::int64_t largest_rank = std::numeric_limits<std::int32_t>::max();

/// The values of a configuration, each of the type that it must have.
class Values {
 public:
  Values(const Json& config, const fs::path& file) : config_(config), file_(file) {}

  /// Null where it is not set.
  const Json& at(const char* key) const {
    static const Json unset;
    const auto found = config_.find(key);
    return found == config_.end() ? unset : *found;
  }

  bool truth(const char* key) const {
    const Json& value = at(key);
    if (!value.is_null() && !value.is_boolean()) refuse(key, value, "true or false");
    return value.is_boolean() && value.get<bool>();
  }

  double rank(const std::string& key, const Json& value) const {
    const bool fits = value.is_number_integer() && value > 0 && value <= largest_rank;
    if (!fits) refuse(key, value, fmt::format("a whole number from 1 to {}", largest_rank));
    return value.get<double>();
  }

  double number(const std::string& key, const Json& value) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) refuse(key, value, "a number");
    return value.get<double>();
  }

  std::string text(const char* key) const {
    const Json& value = at(key);
    if (value.is_null()) return "";
    if (!value.is_string()) refuse(key, value, "a text");
    return value.get<std::string>();
  }

  std::vector<std::string> texts(const char* key) const {
    const Json& value = at(key);
    if (value.is_null()) return {};
    const auto is_text = [](const Json& element) { return element.is_string(); };
    if (!value.is_array() || !std::ranges::all_of(value, is_text)) refuse(key, value, "a list of texts");
    return value.get<std::vector<std::string>>();
  }

  /// `read`: makes a number of a value, or refuses it.
  template <class Read>
  std::vector<LoraPattern> patterns(const char* key, Read read) const {
    const Json& found = at(key);
    if (!found.is_null() && !found.is_object()) refuse(key, found, "an object of patterns and numbers");
    std::vector<LoraPattern> patterns;
    for (const auto& [pattern, value] : found.items()) {
      auto expression = std::make_shared<const RE2>("(.*\\.)?(" + pattern + ")", RE2::Quiet);
      if (!expression->ok()) {
        fail(ExitCode::bad_input, "{}: its {} has '{}', which is no regular expression: {}", file_, key,
             pattern, expression->error());
      }
      patterns.push_back({std::move(expression), read(fmt::format("{} of '{}'", key, pattern), value)});
    }
    return patterns;
  }

  [[noreturn]] void refuse(const std::string& key, const Json& value, const std::string& what) const {
    constexpr std::size_t longest = 80;
    fail(ExitCode::bad_input, "{}: its {} is {}, and must be {}; set it as the adapter was trained", file_,
         key, value.is_null() ? "not set" : printable(value.dump(), longest), what);
  }

 private:
  const Json& config_;
  const fs::path& file_;
};

bool filled(const Json& value) {
  return !value.is_null() && value != false && !(value.is_structured() && value.empty());
}

/// Starts of a training that leave the base another model than it was.
void refuse_changed_base(const Values& values, const fs::path& file) {
  const Json& start = values.at("init_lora_weights");
  if (start.is_null() || start.is_boolean()) return;
  if (!start.is_string()) values.refuse("init_lora_weights", start, "true, false or a name");
  const auto word = start.get<std::string>();
  static const RE2 changes_base("(?i)(pissa|olora|corda|loftq|lora_ga).*");
  if (!RE2::FullMatch(word, changes_base)) return;
  fail(ExitCode::bad_input,
       "{}: its start '{}' changed the base; let PEFT save it as a plain LoRA "
       "(path_initial_model_for_weight_conversion)",
       file, word);
}

/// What makes of it another thing than W + scale * B A.
void refuse_other_kinds(const Values& values, const fs::path& file) {
  const Json& type = values.at("peft_type");
  if (type != "LORA") fail(ExitCode::bad_input, "{}: its peft_type is {}, not LORA", file, type.dump());
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
    if (filled(values.at(key))) fail(ExitCode::bad_input, "{}: {} ({})", file, what, key);
  }
  refuse_changed_base(values, file);
}

/// By the name of the base model, which is all that the configuration has of it.
bool names_quantised(const std::string& base) {
  static const RE2 words(
      "(?i)(^|[^a-z0-9])(bnb|[48]-?bit|int[48]|fp[48]|nf4|gptq|awq|mxfp4|nvfp4)([^a-z0-9]|$)");
  return RE2::PartialMatch(base, words);
}

double by_pattern(const std::vector<LoraPattern>& patterns, const std::string& name, double otherwise) {
  const auto fits = [&](const LoraPattern& pattern) { return RE2::FullMatch(name, *pattern.expression); };
  const auto found = std::ranges::find_if(patterns, fits);
  return found == patterns.end() ? otherwise : found->value;
}

}  // namespace

std::int64_t LoraScales::rank_of(const std::string& name) const {
  return static_cast<std::int64_t>(by_pattern(rank_pattern, name, r));
}

double LoraScales::scale_of(const std::string& name) const {
  const double rank = by_pattern(rank_pattern, name, r);
  return by_pattern(alpha_pattern, name, alpha) / (root ? std::sqrt(rank) : rank);
}

PeftConfig parse_peft_config(std::string text, const fs::path& file) {
  std::string why;
  const nlohmann::json checked = parse_json(text, &why);
  if (!why.empty()) fail(ExitCode::bad_input, "{}: is not JSON: {}", file, why);
  if (!checked.is_object()) fail(ExitCode::bad_input, "{}: is not a JSON object", file);
  const Json json = Json::parse(text);
  const Values values(json, file);
  refuse_other_kinds(values, file);
  PeftConfig config;
  const auto rank = [&](const std::string& key, const Json& value) { return values.rank(key, value); };
  const auto number = [&](const std::string& key, const Json& value) { return values.number(key, value); };
  config.scales.r = rank("r", values.at("r"));
  config.scales.alpha = number("lora_alpha", values.at("lora_alpha"));
  config.scales.root = values.truth("use_rslora");
  config.scales.rank_pattern = values.patterns("rank_pattern", rank);
  config.scales.alpha_pattern = values.patterns("alpha_pattern", number);
  config.fan_in_fan_out = values.truth("fan_in_fan_out");
  config.target_parameters = values.texts("target_parameters");
  config.base_name = values.text("base_model_name_or_path");
  config.on_quantised = names_quantised(config.base_name);
  config.text = std::move(text);
  return config;
}

}  // namespace lox
