// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace re2 {
class RE2;
}

namespace lox {

/// A value for the modules whose name ends with what a regular expression matches.
struct LoraPattern {
  std::shared_ptr<const re2::RE2> expression;
  double value = 0;
};

/// What adapter_config.json says of ranks and scales. Of patterns the first that fits counts, as in PEFT.
struct LoraScales {
  double r = 0;  ///< ranks are whole numbers from 1 to 2^31 - 1, those of patterns too
  double alpha = 0;
  bool root = false;  ///< use_rslora: alpha over the root of r
  std::vector<LoraPattern> rank_pattern;
  std::vector<LoraPattern> alpha_pattern;

  /// `name`: of a module, or of one of its parameters where the adapter names those.
  std::int64_t rank_of(const std::string& name) const;
  double scale_of(const std::string& name) const;
};

/// What lox takes from adapter_config.json.
struct PeftConfig {
  std::string text;  ///< of the file
  LoraScales scales;
  std::vector<std::string> target_parameters;
  bool fan_in_fan_out = false;
  std::string base_name;      ///< base_model_name_or_path
  bool on_quantised = false;  ///< it tells that the adapter was trained beside a quantised base
};

/// `file`: for messages. Throws Error(bad_input), naming file, key and value: variants of LoRA whose sum is
/// not W + scale * B A, values of another type than PEFT writes. A key that is null is not set.
PeftConfig parse_peft_config(std::string text, const fs::path& file);

}  // namespace lox
