// SPDX-License-Identifier: MIT
#include "lox/io/adapted_model.hpp"

#include "io/adapters.hpp"

namespace lox {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::lora_config;
using testing::lora_shapes;
using testing::put;
using testing::put_adapter;
using testing::Scratch;
using testing::Shapes;
using testing::zeros;

const std::string prefix = "base_model.model.";

/// A base of BF16 zeros and an adapter beside it.
class AdaptedModelTest : public ::testing::Test {
 protected:
  AdaptedModel adapt_to(const Shapes& base, const Shapes& adapter, const json& other = json::object()) {
    put(scratch_ / "base/model.safetensors", zeros(base, "BF16", 2));
    json config = lora_config();
    config.update(other);
    put_adapter(scratch_ / "adapter", config, adapter);
    base_ = open_checkpoint(scratch_ / "base");
    return adapt(base_, open_peft_adapter(scratch_ / "adapter"));
  }
  int at(const std::string& name) const {
    const auto found = std::ranges::find(base_.tensors, name, &TensorInfo::name);
    return static_cast<int>(found - base_.tensors.begin());
  }
  void expect_refused(const Shapes& base, const Shapes& adapter,
                      std::initializer_list<std::string_view> parts, const json& other = json::object()) {
    expect_error(
        ExitCode::bad_input, [&] { adapt_to(base, adapter, other); }, parts);
  }

  Scratch scratch_;
  Checkpoint base_;
};

TEST_F(AdaptedModelTest, LinearsAndTheirScale) {
  const AdaptedModel model = adapt_to({{"m.q_proj.weight", {5, 3}}, {"m.norm.weight", {3}}}, lora_shapes());
  ASSERT_EQ(model.updates.size(), 1U);
  const LoraUpdate& update = model.updates.at(at("m.q_proj.weight"));
  EXPECT_EQ(update.r, 2);
  EXPECT_EQ(update.scale, 2);
  EXPECT_EQ(update.experts, 1);
  EXPECT_FALSE(update.turned);
  EXPECT_EQ(model.adapter.table.tensors[static_cast<std::size_t>(update.a)].shape[1], 3);
  EXPECT_TRUE(model.replaced.empty());
  EXPECT_EQ(model.table.tensors.size(), base_.tensors.size());
}

TEST_F(AdaptedModelTest, WhichWayAWeightLies) {
  EXPECT_TRUE(adapt_to({{"m.q_proj.weight", {3, 5}}}, lora_shapes()).updates.at(0).turned);
  const Shapes square{{prefix + "m.c.lora_A.weight", {2, 4}}, {prefix + "m.c.lora_B.weight", {4, 2}}};
  EXPECT_FALSE(adapt_to({{"m.c.weight", {4, 4}}}, square).updates.at(0).turned);
  EXPECT_TRUE(adapt_to({{"m.c.weight", {4, 4}}}, square, {{"fan_in_fan_out", true}}).updates.at(0).turned);
  const Shapes embedding{{prefix + "e.lora_embedding_A", {2, 4}}, {prefix + "e.lora_embedding_B", {4, 2}}};
  EXPECT_TRUE(adapt_to({{"e.weight", {4, 4}}}, embedding).updates.at(0).turned);
}

TEST_F(AdaptedModelTest, ExpertsInOneParameter) {
  const Shapes factors{{prefix + "m.experts.lora_A.weight", {6, 4}},
                       {prefix + "m.experts.lora_B.weight", {5, 6}}};
  const json named{{"target_parameters", {"experts.down_proj"}}};
  const LoraUpdate update = adapt_to({{"m.experts.down_proj", {3, 5, 4}}}, factors, named).updates.at(0);
  EXPECT_EQ(update.experts, 3);
  EXPECT_EQ(update.r, 2);
  EXPECT_FALSE(update.turned);
  EXPECT_TRUE(adapt_to({{"m.experts.down_proj", {3, 4, 5}}}, factors, named).updates.at(0).turned);
  expect_refused({{"m.experts.down_proj", {2, 5, 4}}}, factors, {"m.experts"}, named);
}

TEST_F(AdaptedModelTest, WholeWeightsAndBiases) {
  Shapes adapter = lora_shapes();
  adapter[prefix + "m.q_proj.lora_B.bias"] = {5};
  adapter[prefix + "m.norm.weight"] = {3};
  const Shapes base{{"m.q_proj.weight", {5, 3}}, {"m.q_proj.bias", {5}}, {"m.norm.weight", {3}}};
  const AdaptedModel model = adapt_to(base, adapter);
  EXPECT_EQ(model.replaced, std::set<int>{at("m.norm.weight")});
  const LoraUpdate& bias = model.updates.at(at("m.q_proj.bias"));
  EXPECT_TRUE(bias.is_bias());
  EXPECT_EQ(bias.scale, 2);
  // The replaced one lies in the adapter, in its dtype.
  const TensorInfo& norm = model.table.tensors[static_cast<std::size_t>(at("m.norm.weight"))];
  EXPECT_EQ(norm.dtype, DType::F32);
  EXPECT_EQ(model.table.files[static_cast<std::size_t>(norm.extent.file)].filename(),
            "adapter_model.safetensors");
}

TEST_F(AdaptedModelTest, TwoForOnePlaceAreRefused) {
  const Shapes base{{"m.q_proj.weight", {5, 3}}, {"m.q_proj.bias", {5}}, {"m.norm.weight", {3}}};
  Shapes biases = lora_shapes();
  biases[prefix + "m.q_proj.lora_B.bias"] = {5};
  biases[prefix + "m.q_proj.base_layer.lora_B.bias"] = {5};
  expect_refused(base, biases,
                 {"m.q_proj.lora_B.bias'", "m.q_proj.base_layer.lora_B.bias'", "m.q_proj.bias"});
  Shapes whole = lora_shapes();
  whole[prefix + "m.norm.weight"] = {3};
  whole[prefix + "m.norm.modules_to_save.weight"] = {3};
  expect_refused(base, whole, {"m.norm", "twice"});
  Shapes both = lora_shapes();
  both[prefix + "m.q_proj.weight"] = {5, 3};
  expect_refused(base, both, {"m.q_proj.weight", "beside factors"});
}

TEST_F(AdaptedModelTest, WhatHasNoPlaceIsRefused) {
  expect_refused({{"m.o_proj.weight", {5, 3}}}, lora_shapes(), {"m.q_proj.weight", "does not hold"});
  expect_refused({{"m.q_proj.weight", {5, 4}}}, lora_shapes(), {"m.q_proj.lora_A.weight", "[5, 4]"});
  expect_refused({{"m.q_proj.weight", {5, 3}}}, lora_shapes(), {"rank"}, {{"rank_pattern", {{"q_proj", 1}}}});
}

TEST_F(AdaptedModelTest, PatternsTellRankAndScale) {
  const AdaptedModel model = adapt_to({{"m.q_proj.weight", {5, 3}}}, lora_shapes(),
                                      {{"r", 16},
                                       {"rank_pattern", {{"q_proj", 2}}},
                                       {"alpha_pattern", {{"m.q.*", 10}}},
                                       {"use_rslora", true}});
  EXPECT_EQ(model.updates.at(0).r, 2);
  EXPECT_DOUBLE_EQ(model.updates.at(0).scale, 10 / std::sqrt(2.0));
}

TEST_F(AdaptedModelTest, EmbeddingsThatPeftSavesMustBeTheBases) {
  Shapes adapter{{prefix + "e.lora_embedding_A", {2, 6}},
                 {prefix + "e.lora_embedding_B", {4, 2}},
                 {prefix + "e.base_layer.weight", {6, 4}}};
  const AdaptedModel model = adapt_to({{"e.weight", {6, 4}}}, adapter);
  EXPECT_EQ(model.saved_bases.size(), 1U);
  EXPECT_NO_THROW(check_saved_bases(model));
  std::string bytes = testing::get(scratch_ / "adapter/adapter_model.safetensors");
  const std::size_t first = bytes.size() - 4 * (6 * 4 + 2 * 6 + 4 * 2);  // by name, base_layer comes first
  bytes[first + 3] = 0x40;                                               // 2.0
  put(scratch_ / "adapter/adapter_model.safetensors", bytes);
  expect_error(ExitCode::bad_input, [&] { check_saved_bases(model); }, {"e.base_layer.weight", "e.weight"});
}

}  // namespace
}  // namespace lox
