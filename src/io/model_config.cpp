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

}  // namespace

nlohmann::json read_json_of(const Checkpoint& model, const std::string& name) {
  const auto file = std::ranges::find(model.other_files, name, &OtherFile::name);
  if (file == model.other_files.end() || file->extent.bytes > longest_config) return nlohmann::json::object();
  std::string text(file->extent.bytes, '\0');
  FileStorage storage(model, FileStorage::Access::read);
  storage.read(file->extent, 0, std::as_writable_bytes(std::span(text)));
  nlohmann::json json = parse_json(text);
  return json.is_object() ? json : nlohmann::json::object();
}

void refuse_quantised(const Checkpoint& model) {
  for (const TensorInfo& tensor : model.tensors) {
    if (!is_low_precision_float(tensor.dtype) || tensor.shape.size() < 2 || tensor.elements() == 0) continue;
    fail(ExitCode::bad_input,
         "{}: tensor '{}' is {}, a quantised weight that means nothing without its scales; convert the model "
         "to BF16 "
         "first",
         model.path, tensor.name, dtype_name(tensor.dtype));
  }
  const nlohmann::json config = read_json_of(model, "config.json");
  if (!config.value("quantization_config", nlohmann::json()).is_null()) {
    fail(ExitCode::bad_input,
         "{}: config.json has a quantization_config: the weights are quantised, and editing them without "
         "their scales "
         "would be wrong; convert the model to BF16 first",
         model.path);
  }
}

}  // namespace lox
