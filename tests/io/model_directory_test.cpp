// SPDX-License-Identifier: MIT
#include "lox/io/model_directory.hpp"

#include "lox/io/storage.hpp"

#include <gmock/gmock.h>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;
using testing::find_tensor;
using testing::framed;
using testing::get;
using testing::put;
using testing::put_odd_model;
using testing::Scratch;

/// A safetensors file with one tensor of one byte.
std::string holding(const std::string& tensor) {
  return framed("{\"" + tensor + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x");
}

void put_index(const fs::path& folder, const std::map<std::string, std::string>& map) {
  std::string text = R"({"weight_map":{)";
  for (const auto& [tensor, shard] : map)
    text += fmt::format("{}\"{}\":\"{}\"", text.back() == '{' ? "" : ",", tensor, shard);
  put(folder / index_name, text + "}}");
}

std::vector<std::string> other_file_names(const Checkpoint& model) {
  std::vector<std::string> names;
  for (const OtherFile& file : model.other_files) names.push_back(file.name);
  return names;
}

void expect_refused(const Scratch& scratch, std::initializer_list<std::string_view> parts) {
  expect_error(
      ExitCode::bad_input, [&] { open_checkpoint(scratch.path()); }, parts);
}

TEST(ModelDirectory, ReadsShardsIndexAndOtherFiles) {
  const Scratch scratch;
  put_odd_model(scratch.path());
  put(scratch / ".git/HEAD", "x");
  put(scratch / ".gitattributes", "x");
  put(scratch / ".cache/huggingface/x", "x");
  const Checkpoint model = open_checkpoint(scratch / "");  // with a slash at its end
  EXPECT_EQ(model.format, Format::safetensors_directory);
  EXPECT_EQ(model.tensors.size(), 13U);
  EXPECT_EQ(model.bytes(), 111U);
  EXPECT_EQ(model.shards.size(), 2U);
  EXPECT_THAT(other_file_names(model),
              ::testing::ElementsAre("code/deep/model.py", "config.json", "empty.txt",
                                     "model.safetensors.index.json", "pytorch_model.bin", "кофе ☕.txt"));
  const TensorInfo* const tensor = find_tensor(model, "..");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->dtype, DType::C64);
  FileStorage storage(model, FileStorage::Access::read);
  std::string bytes(16, '\0');
  storage.read(*tensor, 0, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, testing::pattern(50, 2).substr(8, 16));
}

TEST(ModelDirectory, IndexAndShardsMustAgree) {
  const Scratch scratch;
  put(scratch / "a.safetensors", holding("a"));
  put_index(scratch.path(), {{"a", "a.safetensors"}, {"b", "b.safetensors"}});
  expect_refused(scratch, {index_name, "b.safetensors", "missing"});
  put(scratch / "b.safetensors", holding("c"));
  expect_refused(scratch, {index_name, "tensor c", "b.safetensors"});
  put(scratch / "b.safetensors", framed("{}"));
  expect_refused(scratch, {index_name, "tensor b", "does not hold it"});
  put(scratch / "b.safetensors", holding("a"));
  expect_refused(scratch, {"tensor a", "a.safetensors", "b.safetensors"});
  put_index(scratch.path(), {{"a", "b.safetensors"}, {"b", "a.safetensors"}});
  put(scratch / "b.safetensors", holding("b"));
  expect_refused(scratch, {index_name, "says tensor a is in b.safetensors"});
  put_index(scratch.path(), {{"a", "a.safetensors"}});
  expect_refused(scratch, {"b.safetensors", "stale"});
  fs::rename(scratch / "b.safetensors", scratch / "consolidated-1.safetensors");
  EXPECT_THAT(other_file_names(open_checkpoint(scratch.path())),
              ::testing::ElementsAre("consolidated-1.safetensors", index_name));
}

TEST(ModelDirectory, WithoutAnIndexAllFilesCount) {
  const Scratch scratch;
  expect_refused(scratch, {"no *.safetensors"});
  put(scratch / "sub/x.safetensors", holding("x"));
  expect_refused(scratch, {"no *.safetensors"});
  put(scratch / "consolidated.safetensors", holding("x"));
  EXPECT_EQ(open_checkpoint(scratch.path()).tensors.at(0).name, "x");
  put(scratch / "b.safetensors", holding("b"));
  put(scratch / "a.safetensors", holding("c"));
  const Checkpoint model = open_checkpoint(scratch.path());
  ASSERT_EQ(model.tensors.size(), 2U);
  EXPECT_EQ(model.tensors[0].name, "c");
  EXPECT_THAT(other_file_names(model),
              ::testing::ElementsAre("consolidated.safetensors", "sub/x.safetensors"));
  put(scratch / "a.safetensors", holding("b"));
  expect_refused(scratch, {"tensor b", "a.safetensors", "b.safetensors"});
}

TEST(ModelDirectory, LinksToFilesAreFollowed) {
  const Scratch scratch;
  put(scratch / "blobs/1", holding("a"));
  put(scratch / "blobs/2", "{}");
  fs::create_directories(scratch / "snapshot");
  fs::create_symlink("../blobs/1", scratch / "snapshot/model.safetensors");
  fs::create_symlink("../blobs/2", scratch / "snapshot/config.json");
  fs::create_directory_symlink("..", scratch / "snapshot/round");
  const Checkpoint model = open_checkpoint(scratch / "snapshot");
  EXPECT_EQ(model.bytes(), 1U);
  EXPECT_THAT(other_file_names(model), ::testing::ElementsAre("config.json"));
  EXPECT_EQ(model.other_files[0].extent.bytes, 2U);
  fs::remove(scratch / "blobs/2");
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "snapshot"); },
               {"config.json", "link to nothing"});
  fs::remove(scratch / "blobs/1");
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "snapshot"); },
               {"model.safetensors", "link to nothing"});
}

TEST(ModelDirectory, NamesThatJsonCannotHoldAreRefused) {
  const Scratch scratch;
  put(scratch / "model.safetensors", holding("a"));
  put(scratch / "\xFF", "");
  expect_refused(scratch, {"\\xff", "UTF-8"});
}

TEST(ModelDirectory, PathsThatAreNoModel) {
  const Scratch scratch;
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "nothing"); }, {"nothing", "no such"});
  put(scratch / "x.bin", "x");
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "x.bin"); }, {"x.bin", "neither"});
  expect_error(ExitCode::bad_input, [&] { open_checkpoint("/dev/null"); }, {"neither"});
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / std::string(300, 'x')); },
               {"File name too long"});
}

TEST(ModelDirectory, CreatedSkeletonIsTheModelWithoutItsBytes) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const Checkpoint like = open_checkpoint(scratch / "in");
  const Checkpoint made = create_checkpoint(like, scratch / "out", Format::safetensors_directory);
  const Checkpoint back = open_checkpoint(scratch / "in");
  ASSERT_EQ(made.tensors.size(), like.tensors.size());
  for (std::size_t i = 0; i < like.tensors.size(); ++i) {
    EXPECT_EQ(made.tensors[i].name, like.tensors[i].name);
    EXPECT_EQ(made.tensors[i].extent.offset, back.tensors[i].extent.offset);
  }
  EXPECT_EQ(other_file_names(made), other_file_names(like));
  EXPECT_EQ(fs::file_size(scratch / "out/pytorch_model.bin"), 1000U);
  expect_error(ExitCode::bad_input, [&] { create_checkpoint(like, scratch / "out", Format::hdf5); },
               {"exists already"});
}

TEST(ModelDirectory, MadeUpShardsComeWithAnIndex) {
  const Scratch scratch;
  Checkpoint like;
  for (const char* const name : {"b", "a"}) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.shape = {4};
    like.tensors.push_back(tensor);
  }
  const Checkpoint made =
      create_safetensors(like, scratch / "out", Format::safetensors_directory, Space::reserved, 16);
  EXPECT_EQ(made.tensors.at(0).name, "b");
  const Checkpoint back = open_checkpoint(scratch / "out");
  EXPECT_EQ(back.shards.at(1).name, "model-00002-of-00002.safetensors");
  EXPECT_THAT(other_file_names(back), ::testing::ElementsAre(index_name));
}

TEST(ModelDirectory, FailedCreationLeavesNothing) {
  const Scratch scratch;
  Checkpoint like;
  like.other_files = {{"a", {0, 0, 1}}, {"../evil", {0, 0, 1}}};
  expect_error(ExitCode::bad_input,
               [&] { create_checkpoint(like, scratch / "out", Format::safetensors_directory); }, {"evil"});
  expect_error(ExitCode::bad_input, [&] { create_checkpoint(like, scratch / "out.h5", Format::hdf5); },
               {"evil"});
  EXPECT_TRUE(fs::is_empty(scratch.path()));
}

}  // namespace
}  // namespace lox
