// SPDX-License-Identifier: MIT
#include "lox/plan/shapes.hpp"

#include "lox/base/error.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

std::int64_t kept_layers(const ModelShape& shape, std::int64_t layers) {
  return layers < 0 ? shape.layers : std::min(layers, shape.layers);
}

}  // namespace

const std::vector<ModelShape>& model_shapes() {
  static const std::vector<ModelShape> shapes{
      {"tiny", 256, 688, 4, 8, 4, 1000},
      {"llama-2-7b", 4096, 11008, 32, 32, 32, 32000},
      {"llama-2-13b", 5120, 13824, 40, 40, 40, 32000},
      {"llama-2-70b", 8192, 28672, 80, 64, 8, 32000},
      {"llama-3-8b", 4096, 14336, 32, 32, 8, 128256},
      {"llama-3-70b", 8192, 28672, 80, 64, 8, 128256},
      {"llama-3.1-405b", 16384, 53248, 126, 128, 8, 128256},
      {"mistral-7b", 4096, 14336, 32, 32, 8, 32768},
      {"mixtral-8x7b", 4096, 14336, 32, 32, 8, 32000, 8},
      {"qwen2.5-72b", 8192, 29568, 80, 64, 8, 152064, 0, true},
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

std::vector<TensorInfo> model_tensors(const ModelShape& shape, std::int64_t layers) {
  std::vector<TensorInfo> tensors;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> extents) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.dtype = DType::BF16;
    tensor.shape = std::move(extents);
    tensors.push_back(std::move(tensor));
  };
  const std::int64_t head = shape.hidden / shape.heads;
  const std::int64_t key_value = head * shape.key_value_heads;
  const auto add_gated = [&](const std::string& prefix, const char* gate, const char* up, const char* down) {
    add(prefix + gate + ".weight", {shape.intermediate, shape.hidden});
    add(prefix + up + ".weight", {shape.intermediate, shape.hidden});
    add(prefix + down + ".weight", {shape.hidden, shape.intermediate});
  };
  add("model.embed_tokens.weight", {shape.vocabulary, shape.hidden});
  for (std::int64_t layer = 0; layer < kept_layers(shape, layers); ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    add(prefix + "input_layernorm.weight", {shape.hidden});
    const std::string attention = prefix + "self_attn.";
    add(attention + "q_proj.weight", {shape.hidden, shape.hidden});
    add(attention + "k_proj.weight", {key_value, shape.hidden});
    add(attention + "v_proj.weight", {key_value, shape.hidden});
    if (shape.attention_bias) {
      add(attention + "q_proj.bias", {shape.hidden});
      add(attention + "k_proj.bias", {key_value});
      add(attention + "v_proj.bias", {key_value});
    }
    add(attention + "o_proj.weight", {shape.hidden, shape.hidden});
    add(prefix + "post_attention_layernorm.weight", {shape.hidden});
    if (shape.experts == 0) {
      add_gated(prefix + "mlp.", "gate_proj", "up_proj", "down_proj");
      continue;
    }
    add(prefix + "block_sparse_moe.gate.weight", {shape.experts, shape.hidden});
    for (std::int64_t expert = 0; expert < shape.experts; ++expert) {
      add_gated(fmt::format("{}block_sparse_moe.experts.{}.", prefix, expert), "w1", "w3", "w2");
    }
  }
  add("model.norm.weight", {shape.hidden});
  add("lm_head.weight", {shape.vocabulary, shape.hidden});
  return tensors;
}

std::string model_config(const ModelShape& shape, std::int64_t layers) {
  const bool mixture = shape.experts > 0;
  nlohmann::ordered_json config{{"architectures",
                                 {mixture                ? "MixtralForCausalLM"
                                  : shape.attention_bias ? "Qwen2ForCausalLM"
                                                         : "LlamaForCausalLM"}},
                                {"hidden_size", shape.hidden},
                                {"intermediate_size", shape.intermediate},
                                {"model_type", mixture                ? "mixtral"
                                               : shape.attention_bias ? "qwen2"
                                                                      : "llama"},
                                {"num_attention_heads", shape.heads},
                                {"num_hidden_layers", kept_layers(shape, layers)},
                                {"num_key_value_heads", shape.key_value_heads},
                                {"tie_word_embeddings", false},
                                {"torch_dtype", "bfloat16"},
                                {"vocab_size", shape.vocabulary}};
  if (mixture) {
    config["num_experts_per_tok"] = 2;
    config["num_local_experts"] = shape.experts;
  }
  return config.dump(2) + "\n";
}

}  // namespace lox
