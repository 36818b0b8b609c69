// SPDX-License-Identifier: MIT
#include "lox/io/hdf5.hpp"

#include "io/models.hpp"

namespace lox {
namespace {

using testing::bytes_of;
using testing::copy_model;
using testing::find_tensor;
using testing::get;
using testing::put_odd_model;
using testing::Scratch;

TEST(Hdf5, ThereAndBackIsTheSameDirectory) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const Checkpoint in = open_checkpoint(scratch / "in");
  copy_model(in, scratch / "x.h5", Format::hdf5);
  const Checkpoint there = open_checkpoint(scratch / "x.h5");
  ASSERT_EQ(there.tensors.size(), in.tensors.size());
  for (std::size_t i = 0; i < in.tensors.size(); ++i) {
    EXPECT_EQ(there.tensors[i].name, in.tensors[i].name);
    EXPECT_EQ(there.tensors[i].dtype, in.tensors[i].dtype);
    EXPECT_EQ(there.tensors[i].shape, in.tensors[i].shape);
    EXPECT_TRUE(there.tensors[i].dataset.empty());
    EXPECT_EQ(bytes_of(there, there.tensors[i]), bytes_of(in, in.tensors[i]));
  }
  copy_model(there, scratch / "out", Format::safetensors_directory);
  EXPECT_EQ(testing::tree(scratch / "out"), testing::tree(scratch / "in"));
  copy_model(there, scratch / "y.h5", Format::hdf5);
  EXPECT_EQ(get(scratch / "y.h5"), get(scratch / "x.h5"));
}

TEST(Hdf5, ThereAndBackIsTheSameFile) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const fs::path file = scratch / "in/model-00001-of-00002.safetensors";
  copy_model(open_checkpoint(file), scratch / "x.h5", Format::hdf5);
  copy_model(open_checkpoint(scratch / "x.h5"), scratch / "back.safetensors", Format::safetensors_file);
  EXPECT_EQ(get(scratch / "back.safetensors"), get(file));
  copy_model(open_checkpoint(scratch / "x.h5"), scratch / "back", Format::safetensors_directory);
  EXPECT_EQ(get(scratch / "back/model.safetensors"), get(file));
}

TEST(Hdf5, ShardsMergeIntoOneFile) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const Checkpoint in = open_checkpoint(scratch / "in");
  EXPECT_TRUE(copy_model(in, scratch / "x.safetensors", Format::safetensors_file).other_files.empty());
  const Checkpoint merged = open_checkpoint(scratch / "x.safetensors");
  EXPECT_EQ(merged.tensors.size(), in.tensors.size());
  for (const TensorInfo& tensor : in.tensors) EXPECT_EQ(bytes_of(merged, tensor.name), bytes_of(in, tensor));
}

}  // namespace
}  // namespace lox
