// SPDX-License-Identifier: MIT
#include "lox/plan/shapes.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

std::map<DType, std::int64_t> elements_of(const std::string& shape, bool fp8 = false) {
  std::map<DType, std::int64_t> sums;
  for (const TensorInfo& tensor : model_tensors(model_shape(shape), -1, fp8))
    sums[tensor.dtype] += tensor.elements();
  return sums;
}

/// As published with the models (safetensors.parameters of the Hugging Face Hub).
TEST(Shapes, KnownModelsHaveTheirKnownSizes) {
  const std::map<std::string, std::int64_t> known{
      {"llama-2-7b", 6738415616},       {"llama-3-8b", 8030261248},        {"llama-3-70b", 70553706496},
      {"llama-3.1-405b", 405853388800}, {"llama-3.2-1b", 1235814400},      {"llama-3.2-3b", 3212749824},
      {"mistral-7b", 7248023552},       {"mixtral-8x7b", 46702792704},     {"qwen2.5-72b", 72706203648},
      {"qwen3-4b", 4022468096},         {"qwen3-8b", 8190735360},          {"qwen3-32b", 32762123264},
      {"qwen3-30b-a3b", 30532122624},   {"qwen3-235b-a22b", 235093634560}, {"gemma-3-1b", 999885952},
      {"gemma-3-4b", 4300079472},       {"gemma-3-27b", 27432406640},      {"olmo-2-7b", 7298617344},
      {"olmo-2-13b", 13716198400},      {"olmo-2-32b", 32234279936}};
  for (const auto& [name, count] : known) {
    EXPECT_EQ(elements_of(name), (std::map<DType, std::int64_t>{{DType::BF16, count}})) << name;
  }
  EXPECT_EQ(elements_of("deepseek-v3", true),
            (std::map<DType, std::int64_t>{
                {DType::BF16, 3918786560}, {DType::F8_E4M3, 680571043840}, {DType::F32, 41555600}}));
  EXPECT_EQ(model_tensors(model_shape("deepseek-v3"), -1, true).size(), 91991U);
  EXPECT_EQ(model_tensors(model_shape("qwen3-235b-a22b"), -1).size(), 36945U);
}

TEST(Shapes, NamesAreUniqueAndScalesFollowTheirCodes) {
  for (const ModelShape& shape : model_shapes()) {
    for (const bool fp8 : {false, true}) {
      std::set<std::string> names;
      std::int64_t codes = 0;
      const std::vector<TensorInfo> tensors = model_tensors(shape, 4, fp8);
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        EXPECT_TRUE(names.insert(tensors[i].name).second) << shape.name << " " << tensors[i].name;
        EXPECT_EQ(tensors[i].extent.bytes,
                  static_cast<std::uint64_t>(tensors[i].elements()) * element_bytes(tensors[i].dtype));
        if (tensors[i].dtype != DType::F8_E4M3) continue;
        ++codes;
        ASSERT_LT(i + 1, tensors.size());
        EXPECT_EQ(tensors[i + 1].name, tensors[i].name + "_scale_inv");
        EXPECT_EQ(tensors[i + 1].dtype, DType::F32);
        const auto blocks = [](std::int64_t extent) { return (extent + 127) / 128; };
        EXPECT_EQ(tensors[i + 1].shape,
                  (std::vector<std::int64_t>{blocks(tensors[i].shape[0]), blocks(tensors[i].shape[1])}));
      }
      EXPECT_EQ(codes > 0, fp8) << shape.name;
    }
  }
}

TEST(Shapes, FewerLayersHaveNoLayerForFurtherTokens) {
  const auto has = [](std::int64_t layers, const std::string& name) {
    const std::vector<TensorInfo> tensors = model_tensors(model_shape("deepseek-v3"), layers);
    return std::ranges::any_of(tensors, [&](const TensorInfo& tensor) { return tensor.name == name; });
  };
  EXPECT_TRUE(has(-1, "model.layers.61.shared_head.head.weight"));
  EXPECT_TRUE(has(61, "model.layers.61.eh_proj.weight"));
  EXPECT_FALSE(has(60, "model.layers.60.eh_proj.weight"));
  EXPECT_TRUE(has(4, "model.layers.2.mlp.gate_proj.weight"));
  EXPECT_TRUE(has(4, "model.layers.3.mlp.experts.255.down_proj.weight"));
  EXPECT_FALSE(has(4, "model.layers.2.mlp.experts.0.down_proj.weight"));
  EXPECT_FALSE(has(4, "model.layers.4.mlp.gate.weight"));
}

TEST(Shapes, EveryConfigurationIsJson) {
  for (const ModelShape& shape : model_shapes()) {
    const auto config = nlohmann::json::parse(model_config(shape, 2, true));
    const auto& sizes = config.contains("text_config") ? config["text_config"] : config;
    EXPECT_EQ(sizes["num_hidden_layers"], 2) << shape.name;
    EXPECT_EQ(config["quantization_config"]["weight_block_size"], nlohmann::json({128, 128}));
    EXPECT_FALSE(nlohmann::json::parse(model_config(shape, 2)).contains("quantization_config"));
  }
}

}  // namespace
}  // namespace lox
