// SPDX-License-Identifier: MIT
#include "lox/io/peft_adapter.hpp"

#include <ctime>

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

/// Opens an adapter whose configuration is the usual one with other values in it.
PeftAdapter open_with(const json& other, const Shapes& shapes = lora_shapes()) {
  const Scratch scratch;
  json config = lora_config();
  config.update(other);
  put_adapter(scratch / "adapter", config, shapes);
  return open_peft_adapter(scratch / "adapter");
}

void expect_refused(const json& other, std::initializer_list<std::string_view> parts) {
  SCOPED_TRACE(other.dump());
  expect_error(
      ExitCode::bad_input, [&] { open_with(other); }, parts);
}

TEST(PeftConfig, TypesArePeftsOwn) {
  expect_refused({{"use_rslora", 1}}, {"adapter_config.json", "use_rslora", "1", "true or false"});
  expect_refused({{"use_rslora", "true"}}, {"use_rslora", "\"true\"", "true or false"});
  expect_refused({{"fan_in_fan_out", "x"}}, {"fan_in_fan_out", "\"x\"", "true or false"});
  expect_refused({{"rank_pattern", json::array({1, 2})}}, {"rank_pattern", "[1,2]"});
  expect_refused({{"rank_pattern", {{"q_proj", 2.5}}}}, {"rank_pattern of 'q_proj'", "2.5"});
  expect_refused({{"alpha_pattern", {{"q_proj", "8"}}}}, {"alpha_pattern of 'q_proj'", "\"8\""});
  expect_refused({{"alpha_pattern", {{"q_proj", nullptr}}}}, {"alpha_pattern of 'q_proj'", "not set"});
  expect_refused({{"target_parameters", "experts.down_proj"}}, {"target_parameters", "a list of texts"});
  expect_refused({{"target_parameters", json::array({1})}}, {"target_parameters", "[1]"});
  expect_refused({{"base_model_name_or_path", 5}}, {"base_model_name_or_path", "5"});
  expect_refused({{"init_lora_weights", 1}}, {"init_lora_weights", "1"});
  expect_refused({{"lora_alpha", "8"}}, {"lora_alpha", "\"8\"", "a number"});
}

TEST(PeftConfig, RanksAreWholeNumbers) {
  for (const json& r : {json(4.7), json(2.0), json(0), json(-2), json(std::int64_t{1} << 31), json(1e300),
                        json("2"), json(true), json(nullptr)}) {
    expect_refused({{"r", r}}, {"adapter_config.json", "its r is", "a whole number from 1 to 2147483647"});
  }
}

TEST(PeftConfig, NullIsNotSet) {
  json nothing = json::object();
  for (const char* const key :
       {"use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "target_parameters",
        "base_model_name_or_path", "init_lora_weights", "use_dora", "layer_replication"}) {
    nothing[key] = nullptr;
  }
  const PeftAdapter adapter = open_with(nothing);
  EXPECT_EQ(adapter.config.scales.rank_of("m.q_proj"), 2);
  EXPECT_EQ(adapter.config.scales.scale_of("m.q_proj"), 2);
}

TEST(PeftConfig, StartsThatChangeTheBaseInAnyCapitals) {
  for (const char* const start :
       {"pissa", "PiSSA", "pissa_niter_4", "PISSA_niter_16", "OLoRA", "CorDA", "LoftQ", "LoRA_GA"}) {
    expect_refused({{"init_lora_weights", start}}, {start, "changed the base"});
  }
  for (const json& start : {json(true), json(false), json("gaussian"), json("eva"), json("orthogonal")}) {
    EXPECT_NO_THROW(open_with({{"init_lora_weights", start}})) << start;
  }
}

TEST(PeftConfig, WhatIsNoJsonSaysWhere) {
  const Scratch scratch;
  put_adapter(scratch / "adapter", lora_config(), lora_shapes());
  put(scratch / "adapter/adapter_config.json", "{\"peft_type\": \"LORA\",\n \"r\": }");
  const auto open = [&] { open_peft_adapter(scratch / "adapter"); };
  expect_error(ExitCode::bad_input, open, {"adapter_config.json", "line 2"});
  put(scratch / "adapter/adapter_config.json", std::string(100, '['));
  expect_error(ExitCode::bad_input, open, {"adapter_config.json", "nested"});
  put(scratch / "adapter/adapter_config.json", "[]");
  expect_error(ExitCode::bad_input, open, {"adapter_config.json", "object"});
}

TEST(PeftConfig, ManyPatternsAreCompiledOnce) {
  constexpr int modules = 500;
  json ranks = json::object();
  json alphas = json::object();
  Shapes shapes;
  for (int i = 0; i < modules; ++i) {
    const std::string name = fmt::format("model.layers.{}.self_attn.q_proj", i);
    ranks[name] = 1 + i % 7;
    alphas[name] = 2 * (1 + i % 7);
    shapes["base_model.model." + name + ".lora_A.weight"] = {1 + i % 7, 3};
    shapes["base_model.model." + name + ".lora_B.weight"] = {5, 1 + i % 7};
  }
  const std::clock_t start = std::clock();  // of this process: the machine may be busy
  PeftAdapter adapter = open_with({{"rank_pattern", ranks}, {"alpha_pattern", alphas}}, shapes);
  fit_without_base(adapter);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  ASSERT_EQ(adapter.pairs.size(), static_cast<std::size_t>(modules));
  for (const LoraPair& pair : adapter.pairs) EXPECT_EQ(pair.scale, 2);
#ifndef __SANITIZE_ADDRESS__
  EXPECT_LT(seconds, 2);
#endif
}

TEST(PeftAdapter, OnlyItsOwnFileIsRead) {
  const Scratch scratch;
  put_adapter(scratch / "adapter", lora_config(), lora_shapes());
  put(scratch / "adapter/model.safetensors", zeros({{"base_model.model.m.o_proj.lora_A.weight", {2, 3}}}));
  put(scratch / "adapter/reference/adapter_model.safetensors", zeros(lora_shapes()));
  const PeftAdapter adapter = open_peft_adapter(scratch / "adapter");
  EXPECT_EQ(adapter.table.tensors.size(), 2U);
  EXPECT_EQ(adapter.pairs.size(), 1U);
  EXPECT_EQ(unused_weights(adapter),
            (std::vector<std::string>{"model.safetensors", "reference/adapter_model.safetensors"}));
}

TEST(PeftAdapter, PartsOfAnAdapterAreRefused) {
  for (const char* const name :
       {"adapter_model-00001-of-00002.safetensors", "adapter_model.safetensors.index.json"}) {
    const Scratch scratch;
    put_adapter(scratch / "adapter", lora_config(), lora_shapes());
    put(scratch / "adapter" / name, zeros({{"x", {1}}}));
    expect_error(ExitCode::bad_input, [&] { open_peft_adapter(scratch / "adapter"); },
                 {name, "several files"});
    fs::remove(scratch / "adapter/adapter_model.safetensors");
    expect_error(ExitCode::bad_input, [&] { open_peft_adapter(scratch / "adapter"); },
                 {name, "several files"});
  }
}

TEST(PeftAdapter, TwoNamesOfOneFactorAreRefused) {
  for (const char* const again : {"m.q_proj.lora_A.weight", "m.q_proj.lora_B.weight"}) {
    Shapes shapes = lora_shapes();
    shapes[again] = shapes.at(std::string("base_model.model.") + again);
    expect_error(ExitCode::bad_input, [&] { open_with(json::object(), shapes); },
                 {fmt::format("'base_model.model.{}'", again), fmt::format("'{}'", again), "same factor"});
  }
}

}  // namespace
}  // namespace lox
