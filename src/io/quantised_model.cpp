// SPDX-License-Identifier: MIT
#include "lox/io/quantised_model.hpp"

#include "lox/base/error.hpp"
#include "lox/io/model_config.hpp"
#include "lox/io/safetensors.hpp"
#include "lox/io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace lox {
namespace {

using Shape = std::vector<std::int64_t>;
using Block = std::pair<std::int64_t, std::int64_t>;

/// A form of quantised weights that is refused: what its tensors are called, and how to be rid of it.
struct OtherForm {
  std::string_view ending;
  std::string_view name;
  std::string_view tool;
};

constexpr std::string_view to_dense = "convert_checkpoint of compressed-tensors";
constexpr std::array<OtherForm, 8> other_forms{{
    {".weight_packed", "packed weights of 4 bits (compressed-tensors: INT4, NVFP4)", to_dense},
    {"_blocks", "MXFP4", "transformers (Mxfp4Config(dequantize=True), then save_pretrained)"},
    {".qweight", "GPTQ or AWQ", "dequantize_model of GPTQModel"},
    {".weight_scale_2", "NVFP4 (ModelOpt)", to_dense},
    {".weight.absmax", "bitsandbytes", "transformers (model.dequantize(), then save_pretrained)"},
    {".weight.quant_map", "bitsandbytes", "transformers (model.dequantize(), then save_pretrained)"},
    {".SCB", "bitsandbytes INT8", "transformers (model.dequantize(), then save_pretrained)"},
    {".weight_zero_point", "quantised with a zero point", to_dense},
}};

/// What else lies beside FP8 weights: of activations and of the cache, of no use without their codes.
constexpr std::array<std::string_view, 9> side_scales{".input_scale",    ".activation_scale", ".output_scale",
                                                      ".input_scale_ub", ".k_scale",          ".v_scale",
                                                      ".q_scale",        ".prob_scale",       ".qscale_act"};
constexpr std::array<std::string_view, 2> scale_endings{"_scale_inv", "_scale"};
/// In Mistral's own format NAME.weight and NAME.qscale_weight.
constexpr std::string_view mistral_weight = ".weight";
constexpr std::string_view mistral_scale = ".qscale_weight";
constexpr const char* modelopt_config = "hf_quant_config.json";
constexpr Block usual_block{128, 128};

bool is_side_scale(const std::string& name) {
  return std::ranges::any_of(side_scales, [&](std::string_view end) { return name.ends_with(end); });
}

/// What the scales of these codes may be called.
std::vector<std::string> names_of_scales(const std::string& codes) {
  std::vector<std::string> names;
  for (const std::string_view ending : scale_endings) names.push_back(codes + std::string(ending));
  if (codes.ends_with(mistral_weight)) {
    names.push_back(codes.substr(0, codes.size() - mistral_weight.size()) + std::string(mistral_scale));
  }
  return names;
}

/// What a tensor of this name holds the scales of; empty if it is called like no scales of weights.
std::string name_of_codes(const std::string& scales) {
  if (scales.ends_with(mistral_scale)) {
    return scales.substr(0, scales.size() - mistral_scale.size()) + std::string(mistral_weight);
  }
  for (const std::string_view ending : scale_endings) {
    if (scales.ends_with(".weight" + std::string(ending)))
      return scales.substr(0, scales.size() - ending.size());
  }
  return "";
}

/// A matrix of codes, or a batch of them.
bool is_low_matrix(const TensorInfo& tensor) {
  return is_low_precision_float(tensor.dtype) && tensor.shape.size() >= 2 && tensor.elements() > 0;
}

class Decoder {
 public:
  explicit Decoder(Checkpoint& model) : model_(model), config_(quantisation_of(model)) {
    for (std::size_t i = 0; i < model.tensors.size(); ++i) by_name_.emplace(model.tensors[i].name, i);
  }

  void decode() {
    refuse_other_forms();
    std::vector<TensorInfo> kept;
    kept.reserve(model_.tensors.size());
    for (const TensorInfo& tensor : model_.tensors) {
      if (tensor.dtype == DType::F8_E4M3 && is_low_matrix(tensor)) {
        kept.push_back(decoded(tensor));
      } else {
        if (is_low_matrix(tensor)) refuse_dtype(tensor);
        kept.push_back(tensor);
      }
    }
    if (used_.empty()) {
      refuse_config();
      return;
    }
    if (config_.rotated) {
      fail(ExitCode::bad_input,
           "{}: config.json has a transform_config: the quantised weights are stored rotated, and lox cannot "
           "turn them back; convert the model to BF16 by {} first",
           model_.path, to_dense);
    }
    std::erase_if(kept, [&](const TensorInfo& tensor) {
      return used_.contains(tensor.name) || is_side_scale(tensor.name);
    });
    for (const TensorInfo& tensor : kept) refuse_lonely_scales(tensor);
    std::vector<std::optional<std::string>> texts;
    for (const OtherFile& file : model_.other_files) {
      const bool is_config = std::ranges::find(config_files, file.name) != config_files.end();
      texts.push_back(is_config ? config_of_bf16(model_, file.name) : std::nullopt);
    }
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (!texts[i]) continue;
      model_.other_files[i].text = texts[i];
      model_.other_files[i].extent.bytes = texts[i]->size();
    }
    model_.tensors = std::move(kept);
    model_.shards.clear();
    std::erase_if(model_.other_files, [](const OtherFile& file) {
      return file.name == index_name || file.name == modelopt_config;
    });
  }

 private:
  const fs::path& file_of(const TensorInfo& tensor) const {
    return model_.files[static_cast<std::size_t>(tensor.extent.file)];
  }
  const TensorInfo* find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &model_.tensors[found->second];
  }

  [[noreturn]] void refuse_form(const TensorInfo& tensor, std::string_view form,
                                std::string_view tool) const {
    fail(ExitCode::bad_input,
         "{}: tensor '{}' {} is of a form of quantised weights that lox does not read: {}; "
         "convert the model to BF16 by {} first",
         file_of(tensor), tensor.name, dtype_name(tensor.dtype), form, tool);
  }

  void refuse_other_forms() const {
    for (const TensorInfo& tensor : model_.tensors) {
      for (const OtherForm& form : other_forms) {
        if (!tensor.name.ends_with(form.ending)) continue;
        const std::string stem = tensor.name.substr(0, tensor.name.size() - form.ending.size());
        if (form.ending == "_blocks" && find(stem + "_scales") == nullptr) continue;
        refuse_form(tensor, form.name, form.tool);
      }
    }
    for (const TensorInfo& tensor : model_.tensors) {
      if (!tensor.name.ends_with(".weight") || is_editable(tensor.dtype)) continue;
      const TensorInfo* const micro = find(tensor.name.substr(0, tensor.name.size() - 7) + ".scale");
      if (micro != nullptr && micro->dtype == DType::F8_E8M0)
        refuse_form(tensor, "packed FP4 (MXFP4)", to_dense);
      if (dtype_name(tensor.dtype).front() != 'F' && find(tensor.name + "_scale") != nullptr)
        refuse_form(tensor, tensor.dtype == DType::I8 ? "INT8" : "packed integers", to_dense);
    }
  }

  [[noreturn]] void refuse_dtype(const TensorInfo& tensor) const {
    fail(
        ExitCode::bad_input,
        "{}: tensor '{}' is {}, a quantised weight of a form that lox does not read (of FP8 it reads F8_E4M3 "
        "with scales); convert the model to BF16 first",
        file_of(tensor), tensor.name, dtype_name(tensor.dtype));
  }

  void refuse_config() const {
    if (!config_.present) return;
    fail(ExitCode::bad_input,
         "{}: config.json has a quantization_config ({}), but no tensor is F8_E4M3: the weights are "
         "quantised in "
         "a form that lox does not read; convert the model to BF16 first",
         model_.path, config_.method.empty() ? "of no known method" : printable(config_.method));
  }

  void refuse_lonely_scales(const TensorInfo& tensor) const {
    const std::string codes = name_of_codes(tensor.name);
    if (codes.empty()) return;
    fail(ExitCode::bad_input,
         "{}: tensor '{}' holds the scales of '{}', which {}; complete the download, or remove the scales",
         file_of(tensor), tensor.name, codes, find(codes) == nullptr ? "is missing" : "is not F8_E4M3");
  }

  const TensorInfo& scales_of(const TensorInfo& codes) const {
    for (const std::string& name : names_of_scales(codes.name)) {
      const TensorInfo* const found = find(name);
      if (found == nullptr) continue;
      if (is_editable(found->dtype) && found->dtype != DType::F64) return *found;
      fail(ExitCode::bad_input,
           "{}: tensor '{}', the scales of '{}', is {}: quantised in a form that lox does not read (scales "
           "are F32, BF16 or F16); convert the model to BF16 by {} first",
           file_of(*found), found->name, codes.name, dtype_name(found->dtype), to_dense);
    }
    fail(ExitCode::bad_input,
         "{}: tensor '{}' is F8_E4M3, a quantised weight, and no file of the model holds its scales, "
         "'{}_scale_inv' or '{}_scale'; complete the download, or convert the model to BF16 first",
         file_of(codes), codes.name, codes.name, codes.name);
  }

  /// Rows and columns that share a scale, by the scales' shape.
  std::optional<Block> block_of(const Shape& codes, const Shape& scales) const {
    const std::int64_t m = codes[codes.size() - 2];
    const std::int64_t n = codes.back();
    const auto with = [&](std::initializer_list<std::int64_t> end) {
      Shape shape(codes.begin(), codes.end() - 2);
      shape.insert(shape.end(), end);
      return shape;
    };
    const auto fits = [&](const Block& block) {
      return scales == with({(m + block.first - 1) / block.first, (n + block.second - 1) / block.second});
    };
    for (const Block& block : config_.blocks) {
      if (fits(block)) return block;
    }
    const bool one_matrix = codes.size() == 2;
    if (scales == with({1, 1}) || scales == with({1}) || (one_matrix && scales.empty())) return Block{m, n};
    if (!one_matrix && scales == with({})) return Block{m, n};
    if (scales == with({m, 1}) || scales == with({m})) return Block{1, n};
    if (config_.blocks.empty() && fits(usual_block)) return usual_block;
    return std::nullopt;
  }

  TensorInfo decoded(const TensorInfo& codes) {
    const TensorInfo& scales = scales_of(codes);
    const std::optional<Block> block = block_of(codes.shape, scales.shape);
    if (!block) {
      const Block known = config_.blocks.empty() ? usual_block : config_.blocks.front();
      fail(ExitCode::bad_input,
           "{}: tensor '{}' has shape {}, but '{}' has {}: lox knows one scale for a matrix, one for each "
           "row, and "
           "one for each block of {} x {} (weight_block_size of config.json); complete or mend the model",
           file_of(scales), scales.name, shape_text(scales.shape), codes.name, shape_text(codes.shape),
           known.first, known.second);
    }
    used_.insert(scales.name);
    TensorInfo tensor = codes;
    tensor.dtype = DType::BF16;
    tensor.extent.bytes = static_cast<std::uint64_t>(codes.elements()) * element_bytes(DType::BF16);
    tensor.dataset.clear();
    tensor.parts.reset();
    tensor.quantised = std::make_shared<Quantised>(Quantised{codes, scales, block->first, block->second});
    return tensor;
  }

  Checkpoint& model_;
  QuantisationConfig config_;
  std::unordered_map<std::string_view, std::size_t> by_name_;
  std::unordered_set<std::string> used_;  ///< names of scales
};

}  // namespace

Checkpoint dequantised(Checkpoint model) {
  Decoder(model).decode();
  return model;
}

std::int64_t count_quantised(const Checkpoint& model) {
  return std::ranges::count_if(model.tensors,
                               [](const TensorInfo& tensor) { return tensor.quantised != nullptr; });
}

}  // namespace lox
