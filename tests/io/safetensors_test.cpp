// SPDX-License-Identifier: MIT
#include "lox/io/safetensors.hpp"

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;

std::vector<TensorInfo> some_tensors() {
  std::vector<TensorInfo> tensors;
  for (int i = 0; i < 5; ++i) {
    TensorInfo tensor;
    tensor.name = fmt::format("t\"{}", i);
    tensor.dtype = i % 2 == 0 ? DType::BF16 : DType::F32;
    tensor.shape = {10, i + 1};
    tensors.push_back(tensor);
  }
  return tensors;
}

TEST(Safetensors, ShardsAreFilledInOrderAndAligned) {
  const auto tensors = some_tensors();  // 20, 80, 60, 160, 100 bytes
  EXPECT_EQ(make_shards(tensors, 1000).at(0).name, "model.safetensors");
  const auto shards = make_shards(tensors, 160);
  ASSERT_EQ(shards.size(), 3U);
  EXPECT_EQ(shards[2].name, "model-00003-of-00003.safetensors");
  const auto first = parse_safetensors_header(shards[0].header, "");
  ASSERT_EQ(first.tensors.size(), 3U);
  EXPECT_EQ(first.tensors[0].dtype, DType::F32);
  EXPECT_EQ(first.tensors[1].name, "t\"0");
  EXPECT_EQ(first.file_size, 8 + shards[0].header.size() + 160);
  EXPECT_EQ(make_shards(tensors, 1).size(), 5U);
  EXPECT_EQ(make_shards({}, 1).size(), 1U);
}

TEST(Safetensors, PlacesFollowTheTensorsNotTheShards) {
  auto tensors = some_tensors();
  const auto shards = make_shards(tensors, 160);
  const auto extents = place_tensors(tensors, shards);
  EXPECT_EQ(extents.at(0).bytes, 20U);
  EXPECT_EQ(extents.at(4).file, 2);
  tensors[1].shape = {20, 1};
  expect_error(ExitCode::internal, [&] { place_tensors(tensors, shards); }, {"t\"1"});
  tensors.pop_back();
  expect_error(ExitCode::internal, [&] { place_tensors(tensors, shards); }, {"5 tensors"});
}

TEST(Safetensors, IndexNamesEveryTensor) {
  const std::string text = make_safetensors_index(make_shards(some_tensors(), 160));
  EXPECT_NE(text.find("\"total_size\": 420"), std::string::npos);
  const auto map = parse_safetensors_index(text, "index");
  ASSERT_EQ(map.size(), 5U);
  EXPECT_EQ(map[4], (std::pair<std::string, std::string>("t\"4", "model-00003-of-00003.safetensors")));
}

TEST(Safetensors, BadIndexesAreRefused) {
  const auto refuse = [](const std::string& text, std::initializer_list<std::string_view> parts) {
    SCOPED_TRACE(text);
    expect_error(
        ExitCode::bad_input, [&] { parse_safetensors_index(text, "index"); }, parts);
  };
  refuse("", {"JSON"});
  refuse("{}", {"no tensors"});
  refuse(R"({"weight_map":{}})", {"no tensors"});
  refuse(R"({"weight_map":[]})", {"weight_map"});
  refuse(R"({"weight_map":{"a":1}})", {"weight_map"});
  refuse(R"({"weight_map":{"a":"x.safetensors","a":"x.safetensors"}})", {"twice"});
  for (const char* const name : {"../x.safetensors", "/x.safetensors", "a/x.safetensors", "x.bin", "", "..",
                                 "x\\u0000.safetensors", "a\\\\b.safetensors"}) {
    refuse(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name), {"names the file", "outside"});
  }
}

}  // namespace
}  // namespace lox
