// SPDX-License-Identifier: MIT
#include "lox/plan/shapes.hpp"

#include "lox/base/error.hpp"
#include "lox/plan/architectures.hpp"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

bool has_all_layers(const ModelShape& shape, std::int64_t layers) {
  return layers < 0 || layers >= shape.layers;
}
std::int64_t kept_layers(const ModelShape& shape, std::int64_t layers) {
  return has_all_layers(shape, layers) ? shape.layers : layers;
}

std::int64_t head_size(const ModelShape& shape) {
  return shape.head_size > 0 ? shape.head_size : shape.hidden / shape.heads;
}

/// What stands before `end`, which is taken away with it.
std::string_view take_until(std::string_view& text, char end) {
  const std::string_view taken = text.substr(0, text.find(end));
  text.remove_prefix(std::min(taken.size() + 1, text.size()));
  return taken;
}

/// Makes tensors of an architecture's lines.
class Writer {
 public:
  Writer(const ModelShape& shape, bool fp8)
      : shape_(shape), fp8_(fp8), architecture_(architecture(shape.model_type)) {}

  void add(Part part) {
    for (const Block& block : architecture_.blocks) {
      if (block.part == part) add_repeated("", block.lines);
    }
  }

  void add_layer(std::int64_t layer) {
    const std::string prefix = fmt::format("{}{}.", architecture_.layers, layer);
    const Part feed_forward = shape_.experts == 0 || layer < shape_.dense_layers ? Part::dense : Part::sparse;
    for (const Block& block : architecture_.blocks) {
      if (block.part == Part::layer || block.part == feed_forward ||
          (block.part == Part::mtp && layer >= shape_.layers)) {
        add_repeated(prefix, block.lines);
      }
    }
  }

  std::vector<TensorInfo> tensors;

 private:
  std::int64_t size_of(char symbol) const {
    switch (symbol) {
      case 'H':
        return shape_.hidden;
      case 'I':
        return shape_.intermediate;
      case 'N':
        return shape_.heads;
      case 'G':
        return shape_.key_value_heads;
      case 'D':
        return head_size(shape_);
      case 'V':
        return shape_.vocabulary;
      case 'E':
        return shape_.experts;
      case 'M':
        return shape_.expert_intermediate;
      default:
        fail(ExitCode::internal, "no size of a model is called '{}'", symbol);
    }
  }

  /// A product of numbers and sizes.
  std::int64_t extent_of(std::string_view text) const {
    std::int64_t product = 1;
    while (!text.empty()) {
      const std::string_view factor = take_until(text, '*');
      std::int64_t number = 0;
      if (std::from_chars(factor.begin(), factor.end(), number).ec != std::errc())
        number = size_of(factor[0]);
      product *= number;
    }
    return product;
  }

  void add_repeated(const std::string& prefix, std::string_view lines) {
    constexpr std::string_view of_experts = "{e}";
    constexpr std::string_view of_vision = "{v}";
    if (lines.find(of_experts) != std::string_view::npos) {
      for (std::int64_t i = 0; i < shape_.experts; ++i) add_lines(prefix, lines, of_experts, i);
    } else if (lines.find(of_vision) != std::string_view::npos) {
      for (std::int64_t i = 0; i < vision_layers; ++i) add_lines(prefix, lines, of_vision, i);
    } else {
      add_lines(prefix, lines, {}, 0);
    }
  }

  void add_lines(const std::string& prefix, std::string_view lines, std::string_view place,
                 std::int64_t number) {
    while (!lines.empty()) {
      std::string_view line = take_until(lines, '\n');
      const std::string_view name = take_until(line, ' ');
      TensorInfo tensor;
      const std::size_t at = place.empty() ? std::string_view::npos : name.find(place);
      tensor.name = prefix + (at == std::string_view::npos ? std::string(name)
                                                           : fmt::format("{}{}{}", name.substr(0, at), number,
                                                                         name.substr(at + place.size())));
      tensor.dtype = DType::BF16;
      bool quantised = false;
      while (!line.empty()) {
        const std::string_view word = take_until(line, ' ');
        if (word == "*") {
          quantised = fp8_;
        } else if (word == "F32") {
          tensor.dtype = DType::F32;
        } else {
          tensor.shape.push_back(extent_of(word));
        }
      }
      if (quantised) {
        add_quantised(std::move(tensor));
      } else {
        push(std::move(tensor));
      }
    }
  }

  void add_quantised(TensorInfo codes) {
    TensorInfo scales;
    scales.name = codes.name + scale_ending;
    scales.dtype = DType::F32;
    for (const std::int64_t extent : codes.shape)
      scales.shape.push_back((extent + fp8_block - 1) / fp8_block);
    codes.dtype = DType::F8_E4M3;
    push(std::move(codes));
    push(std::move(scales));
  }

  void push(TensorInfo tensor) {
    tensor.extent.bytes = static_cast<std::uint64_t>(tensor.elements()) * element_bytes(tensor.dtype);
    tensors.push_back(std::move(tensor));
  }

  const ModelShape& shape_;
  bool fp8_;
  const Architecture& architecture_;
};

}  // namespace

const std::vector<ModelShape>& model_shapes() {
  static const std::vector<ModelShape> shapes{
      {"tiny", "llama", 256, 688, 4, 8, 4, 1000},
      {"llama-2-7b", "llama", 4096, 11008, 32, 32, 32, 32000},
      {"llama-2-13b", "llama", 5120, 13824, 40, 40, 40, 32000},
      {"llama-2-70b", "llama", 8192, 28672, 80, 64, 8, 32000},
      {"llama-3-8b", "llama", 4096, 14336, 32, 32, 8, 128256},
      {"llama-3-70b", "llama", 8192, 28672, 80, 64, 8, 128256},
      {"llama-3.1-405b", "llama", 16384, 53248, 126, 128, 8, 128256},
      {"llama-3.2-1b", "llama", 2048, 8192, 16, 32, 8, 128256, 64, true},
      {"llama-3.2-3b", "llama", 3072, 8192, 28, 24, 8, 128256, 128, true},
      {"mistral-7b", "llama", 4096, 14336, 32, 32, 8, 32768},
      {"mixtral-8x7b", "mixtral", 4096, 14336, 32, 32, 8, 32000, 0, false, 8},
      {"mixtral-8x22b", "mixtral", 6144, 16384, 56, 48, 8, 32768, 0, false, 8},
      {"qwen2.5-72b", "qwen2", 8192, 29568, 80, 64, 8, 152064},
      {"qwen3-4b", "qwen3", 2560, 9728, 36, 32, 8, 151936, 128, true},
      {"qwen3-8b", "qwen3", 4096, 12288, 36, 32, 8, 151936, 128},
      {"qwen3-32b", "qwen3", 5120, 25600, 64, 64, 8, 151936, 128},
      {"qwen3-30b-a3b", "qwen3_moe", 2048, 6144, 48, 32, 4, 151936, 128, false, 128, 768},
      {"qwen3-235b-a22b", "qwen3_moe", 4096, 12288, 94, 64, 4, 151936, 128, false, 128, 1536},
      {"deepseek-v3", "deepseek_v3", 7168, 18432, 61, 128, 128, 129280, 0, false, 256, 2048, 3, 1},
      {"kimi-k2", "kimi_k2", 7168, 18432, 61, 64, 64, 163840, 0, false, 384, 2048, 1},
      {"gemma-3-1b", "gemma3_text", 1152, 6912, 26, 4, 1, 262144, 256, true},
      {"gemma-3-4b", "gemma3", 2560, 10240, 34, 8, 4, 262208, 256, true},
      {"gemma-3-12b", "gemma3", 3840, 15360, 48, 16, 8, 262208, 256, true},
      {"gemma-3-27b", "gemma3", 5376, 21504, 62, 32, 16, 262208, 128, true},
      {"olmo-2-7b", "olmo2", 4096, 11008, 32, 32, 32, 100352},
      {"olmo-2-13b", "olmo2", 5120, 13824, 40, 40, 40, 100352},
      {"olmo-2-32b", "olmo2", 5120, 27648, 64, 40, 8, 100352},
      {"apertus-8b", "apertus", 4096, 21504, 32, 32, 8, 131072},
      {"apertus-70b", "apertus", 8192, 43008, 80, 64, 8, 131072},
  };
  return shapes;
}

const ModelShape& model_shape(const std::string& name) {
  std::string known;
  for (const ModelShape& shape : model_shapes()) {
    if (shape.name == name) return shape;
    known += (known.empty() ? "" : ", ") + shape.name;
  }
  fail(ExitCode::usage, "--shape '{}' is not known; there are {}", name, known);
}

std::vector<TensorInfo> model_tensors(const ModelShape& shape, std::int64_t layers, bool fp8) {
  Writer writer(shape, fp8);
  writer.add(Part::start);
  const std::int64_t mtp = has_all_layers(shape, layers) ? shape.mtp_layers : 0;
  for (std::int64_t layer = 0; layer < kept_layers(shape, layers) + mtp; ++layer) writer.add_layer(layer);
  writer.add(Part::end);
  if (!shape.tied) writer.add(Part::head);
  return std::move(writer.tensors);
}

std::string model_config(const ModelShape& shape, std::int64_t layers, bool fp8) {
  const Architecture& kind = architecture(shape.model_type);
  auto config = nlohmann::ordered_json::parse(kind.config);
  config["hidden_size"] = shape.hidden;
  config["intermediate_size"] = shape.intermediate;
  config["num_attention_heads"] = shape.heads;
  config["num_hidden_layers"] = kept_layers(shape, layers);
  config["num_key_value_heads"] = shape.key_value_heads;
  config["vocab_size"] = shape.vocabulary;
  if (shape.head_size > 0) config["head_dim"] = shape.head_size;
  if (shape.experts > 0) config[std::string(kind.experts_key)] = shape.experts;
  if (shape.expert_intermediate > 0) config["moe_intermediate_size"] = shape.expert_intermediate;
  if (config.contains("first_k_dense_replace")) {
    config["first_k_dense_replace"] = shape.dense_layers;
    config["num_nextn_predict_layers"] = has_all_layers(shape, layers) ? shape.mtp_layers : 0;
  }
  nlohmann::ordered_json whole{{"architectures", {kind.class_name}}, {"model_type", kind.model_type}};
  if (shape.model_type == "gemma3") {
    config["model_type"] = "gemma3_text";
    whole["text_config"] = config;
    whole["vision_config"] = {{"hidden_size", 1152},       {"image_size", 896},
                              {"intermediate_size", 4304}, {"model_type", "siglip_vision_model"},
                              {"num_attention_heads", 16}, {"num_hidden_layers", vision_layers},
                              {"patch_size", 14},          {"vision_use_head", false}};
  } else {
    whole.update(config);
  }
  whole["tie_word_embeddings"] = shape.tied;
  whole["torch_dtype"] = "bfloat16";
  if (fp8) {
    whole["quantization_config"] = {{"activation_scheme", "dynamic"},
                                    {"fmt", "e4m3"},
                                    {"quant_method", "fp8"},
                                    {"weight_block_size", {fp8_block, fp8_block}}};
  }
  return whole.dump(2) + "\n";
}

}  // namespace lox
