// SPDX-License-Identifier: MIT
#include "lox/io/checkpoint.hpp"

#include "lox/io/storage.hpp"

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;
using testing::Scratch;

TEST(Checkpoint, FormatFollowsThePath) {
  EXPECT_EQ(format_of("a/b.h5"), Format::hdf5);
  EXPECT_EQ(format_of("b.hdf5"), Format::hdf5);
  EXPECT_EQ(format_of("b.safetensors"), Format::safetensors_file);
  EXPECT_EQ(format_of("b"), Format::safetensors_directory);
  EXPECT_EQ(format_of("llama-3.1"), Format::safetensors_directory);
}

TEST(Checkpoint, GoesToTextAndBack) {
  Checkpoint model;
  model.format = Format::hdf5;
  model.path = "/tmp/\xFF\xC3\xA9\x80 x";  // any bytes
  model.files = {model.path, "b"};
  model.tensors = {{"слой\n\"", DType::F8_E8M0, {2, 0, 3}, {1, std::uint64_t{1} << 60, 5}, "/\xFE"},
                   {"", DType::BF16, {}, {}, ""}};
  model.other_files = {{"a/☕", {1, 2, 3}}};
  model.shards = {{"model.safetensors", "header"}};
  const Checkpoint back = Checkpoint::from_text(model.to_text());
  EXPECT_EQ(back.format, model.format);
  EXPECT_EQ(back.path, model.path);
  EXPECT_EQ(back.files, model.files);
  ASSERT_EQ(back.tensors.size(), 2U);
  EXPECT_EQ(back.tensors[0].name, model.tensors[0].name);
  EXPECT_EQ(back.tensors[0].dtype, DType::F8_E8M0);
  EXPECT_EQ(back.tensors[0].shape, model.tensors[0].shape);
  EXPECT_EQ(back.tensors[0].extent.offset, std::uint64_t{1} << 60);
  EXPECT_EQ(back.tensors[0].dataset, "/\xFE");
  EXPECT_TRUE(back.tensors[1].shape.empty());
  EXPECT_EQ(back.other_files.at(0).name, "a/☕");
  EXPECT_EQ(back.other_files.at(0).extent.bytes, 3U);
  EXPECT_EQ(back.shards.at(0).name, "model.safetensors");
  EXPECT_EQ(back.to_text(), model.to_text());
}

TEST(Storage, ReadsAndWritesWithinExtentsOnly) {
  const Scratch scratch;
  testing::put(scratch / "f", "0123456789");
  Checkpoint model;
  model.path = scratch / "f";
  model.files = {model.path};
  FileStorage storage(model, FileStorage::Access::write);
  const Extent extent{0, 2, 4};
  std::string bytes(2, '\0');
  storage.read(extent, 1, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, "34");
  storage.write(extent, 2, std::as_bytes(std::span(bytes)));
  storage.sync(extent);
  EXPECT_EQ(testing::get(scratch / "f"), "0123346789");
  expect_error(ExitCode::internal, [&] { storage.read(extent, 3, std::as_writable_bytes(std::span(bytes))); },
               {});
  expect_error(ExitCode::internal,
               [&] { storage.write(extent, UINT64_MAX, std::as_bytes(std::span(bytes))); }, {});
}

TEST(Storage, KeepsAFewFilesOpenHoweverManyThereAre) {
  const Scratch scratch;
  Checkpoint model;
  for (int i = 0; i < 600; ++i) {
    model.files.push_back(scratch / std::to_string(i));
    testing::put(model.files.back(), std::string(1, static_cast<char>(i % 100)));
  }
  FileStorage storage(model, FileStorage::Access::read);
  for (int i = 0; i < 600; ++i) {
    std::byte byte{};
    storage.read(Extent{i, 0, 1}, 0, std::span(&byte, 1));
    EXPECT_EQ(byte, static_cast<std::byte>(i % 100));
  }
  const auto open = std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  EXPECT_LT(open, 400);
}

TEST(Storage, CopiesARange) {
  const Scratch scratch;
  testing::put(scratch / "b", "----------");
  Checkpoint to;
  to.path = scratch / "b";
  to.files = {to.path};
  {
    FileStorage target(to, FileStorage::Access::write);
    const auto read = [](std::uint64_t first, std::span<std::byte> bytes) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>('0' + first++);
    };
    copy_bytes(read, target, {0, 4, 5}, 1, 4);
    copy_bytes(read, target, {0, 4, 5}, 2, 2);
    expect_error(ExitCode::internal, [&] { copy_bytes(read, target, {0, 4, 5}, 4, 6); }, {"6", "5"});
  }
  EXPECT_EQ(testing::get(scratch / "b"), "-----123--");
}

/// Who opened an output goes on to write there, whatever has taken the output's place.
TEST(Storage, StaysWithItsFolder) {
  const Scratch scratch;
  fs::create_directory(scratch / "m");
  testing::put_model(scratch / "m" / "model.safetensors", 2);
  const Checkpoint model = open_checkpoint(scratch / "m");
  FileStorage late(model, FileStorage::Access::write);
  fs::rename(scratch / "m", scratch / "gone");
  fs::copy(scratch / "gone", scratch / "m", fs::copy_options::recursive);
  const std::string before = testing::get(scratch / "m" / "model.safetensors");
  const std::vector<std::byte> bytes(model.tensors[0].extent.bytes, std::byte{0x5A});
  late.write(model.tensors[0].extent, 0, bytes);
  EXPECT_EQ(testing::get(scratch / "m" / "model.safetensors"), before);
  EXPECT_NE(testing::get(scratch / "gone" / "model.safetensors"), before);
}

}  // namespace
}  // namespace lox
