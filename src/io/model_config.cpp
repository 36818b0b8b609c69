// SPDX-License-Identifier: MIT
#include "lox/io/model_config.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::json;

constexpr std::uint64_t longest_config = std::uint64_t{16} << 20;
constexpr const char* config_file = "config.json";
/// The second name is that of compressed-tensors' first versions.
constexpr std::array<const char*, 2> quantisation_keys{"quantization_config", "compression_config"};
constexpr std::array<const char*, 2> dtype_keys{"torch_dtype", "dtype"};

std::optional<std::string> read_text_of(const Checkpoint& model, const std::string& name) {
  const auto file = std::ranges::find(model.other_files, name, &OtherFile::name);
  if (file == model.other_files.end() || file->extent.bytes > longest_config) return std::nullopt;
  if (file->text) return file->text;
  std::string text(file->extent.bytes, '\0');
  FileStorage storage(model, FileStorage::Access::read);
  storage.read(file->extent, 0, std::as_writable_bytes(std::span(text)));
  return text;
}

/// Of the model, or of the language model in a model of text and pictures.
const json* find_quantisation(const json& config) {
  if (!config.is_object()) return nullptr;
  for (const char* const key : quantisation_keys) {
    const auto found = config.find(key);
    if (found != config.end() && !found->is_null()) return &*found;
  }
  const auto text = config.find("text_config");
  return text == config.end() ? nullptr : find_quantisation(*text);
}

/// [128, 128], wherever it stands below a group.
void add_block(const json& holder, const char* key, QuantisationConfig& to) {
  const auto found = holder.find(key);
  if (found == holder.end() || !found->is_array() || found->size() != 2) return;
  if (!found->at(0).is_number_unsigned() || !found->at(1).is_number_unsigned()) return;
  const auto rows = found->at(0).get<std::uint64_t>();
  const auto cols = found->at(1).get<std::uint64_t>();
  constexpr std::uint64_t most = std::uint64_t{1} << 31;
  if (rows == 0 || cols == 0 || rows > most || cols > most) return;
  to.blocks.emplace_back(rows, cols);
}

std::string word(const json& holder, const char* key) {
  const auto found = holder.find(key);
  return found != holder.end() && found->is_string() ? found->get<std::string>() : "";
}

/// Keys stay in their order.
void make_bf16(nlohmann::ordered_json& config, bool top) {
  for (const char* const key : quantisation_keys) config.erase(key);
  bool says = false;
  for (const char* const key : dtype_keys) {
    if (!config.contains(key)) continue;
    config[key] = "bfloat16";
    says = true;
  }
  if (top && !says) config["torch_dtype"] = "bfloat16";
  for (auto& [key, value] : config.items()) {
    if (key.ends_with("_config") && value.is_object()) make_bf16(value, false);
  }
}

}  // namespace

json read_json_of(const Checkpoint& model, const std::string& name) {
  json value = parse_json(read_text_of(model, name).value_or(""));
  return value.is_object() ? value : json::object();
}

QuantisationConfig quantisation_of(const Checkpoint& model) {
  QuantisationConfig result;
  const json config = read_json_of(model, config_file);
  const json* const found = find_quantisation(config);
  if (found == nullptr) return result;
  result.present = true;
  if (!found->is_object()) return result;
  result.method = word(*found, "quant_method");
  if (const std::string format = word(*found, "format"); !format.empty()) result.method += ", " + format;
  const auto transform = found->find("transform_config");
  result.rotated = transform != found->end() && !transform->empty();
  add_block(*found, "weight_block_size", result);
  const auto groups = found->find("config_groups");
  if (groups == found->end() || !groups->is_object()) return result;
  for (const json& group : *groups) {
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (group.is_object() && weights != group.end() && weights->is_object())
      add_block(*weights, "block_structure", result);
  }
  return result;
}

std::optional<bool> ties_embeddings(const Checkpoint& model) {
  const json config = read_json_of(model, config_file);
  const auto text = config.find("text_config");
  for (const json* const holder : {&config, text == config.end() ? &config : &*text}) {
    if (!holder->is_object()) continue;
    const json tied = holder->value("tie_word_embeddings", json());
    if (tied.is_boolean()) return tied.get<bool>();
  }
  return std::nullopt;
}

std::optional<std::string> config_of_bf16(const Checkpoint& model, const std::string& name) {
  const std::optional<std::string> text = read_text_of(model, name);
  if (!text) return std::nullopt;
  if (!parse_json(*text).is_object()) {  // that it is not nested too deep is known then
    fail(ExitCode::bad_input, "{}: {} is not a JSON object; repair it", model.path, name);
  }
  auto config = nlohmann::ordered_json::parse(*text);
  if (name != config_file) config.erase("quantization");
  make_bf16(config, name == config_file);
  return config.dump(2) + "\n";
}

}  // namespace lox
