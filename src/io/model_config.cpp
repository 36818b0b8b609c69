// SPDX-License-Identifier: MIT
#include "lox/io/model_config.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

constexpr std::uint64_t longest_config = std::uint64_t{16} << 20;

/// config.json; null if there is none, or if it is not JSON.
nlohmann::json read_config(const Checkpoint& model) {
  const auto config = std::find_if(model.other_files.begin(), model.other_files.end(),
                                   [](const OtherFile& file) { return file.name == "config.json"; });
  if (config == model.other_files.end() || config->extent.bytes > longest_config) return nullptr;
  std::string text(config->extent.bytes, '\0');
  FileStorage storage(model, FileStorage::Access::read);
  storage.read(config->extent, 0, std::as_writable_bytes(std::span(text)));
  const nlohmann::json json = parse_json(text);
  return json.is_object() ? json : nlohmann::json(nullptr);
}

}  // namespace

void refuse_quantised(const Checkpoint& model) {
  for (const TensorInfo& tensor : model.tensors) {
    if (!is_low_precision_float(tensor.dtype) || tensor.shape.size() < 2 || tensor.elements() == 0) continue;
    fail(ExitCode::bad_input,
         "{}: tensor '{}' is {}, a quantised weight that means nothing without its scales; convert the model "
         "to BF16 "
         "first",
         model.path, tensor.name, dtype_name(tensor.dtype));
  }
  const nlohmann::json config = read_config(model);
  if (!config.is_null() && config.contains("quantization_config") &&
      !config["quantization_config"].is_null()) {
    fail(ExitCode::bad_input,
         "{}: config.json has a quantization_config: the weights are quantised, and editing them without "
         "their scales "
         "would be wrong; convert the model to BF16 first",
         model.path);
  }
}

}  // namespace lox
