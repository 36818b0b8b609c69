// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_create.hpp"

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::bytes_of;
using testing::copy_tensor;
using testing::expect_error;
using testing::find_tensor;
using testing::put_odd_model;
using testing::Scratch;

TEST(Hdf5Create, LargeTensorsAreAligned) {
  const Scratch scratch;
  Checkpoint like;
  for (int i = 0; i < 4; ++i) {
    TensorInfo tensor;
    tensor.name = std::to_string(i);
    tensor.dtype = DType::BF16;
    tensor.shape = {1024, i % 2 == 0 ? 3 : 700};
    like.tensors.push_back(tensor);
  }
  const Checkpoint made = create_checkpoint(like, scratch / "x.h5", Format::hdf5);
  for (const int i : {1, 3})
    EXPECT_EQ(made.tensors[static_cast<std::size_t>(i)].extent.offset % (1 << 20), 0U);
  const Checkpoint back = open_checkpoint(scratch / "x.h5");
  EXPECT_TRUE(back.shards.empty());  // they were made up
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(find_tensor(back, std::to_string(i))->extent.offset,
              made.tensors[static_cast<std::size_t>(i)].extent.offset);
  }
}

TEST(Hdf5Create, MoreDimensionsThanHdf5HasAreRefused) {
  const Scratch scratch;
  Checkpoint like;
  like.tensors.resize(1);
  like.tensors[0].name = "t";
  like.tensors[0].shape.assign(33, 1);
  expect_error(ExitCode::bad_input, [&] { create_checkpoint(like, scratch / "x.h5", Format::hdf5); },
               {"tensor t", "33"});
  EXPECT_TRUE(fs::is_empty(scratch.path()));
}

TEST(Hdf5Create, OpensAfterAKillWhileItIsWritten) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const Checkpoint in = open_checkpoint(scratch / "in");
  for (std::size_t written = 0; written <= in.tensors.size(); written += 4) {
    const fs::path path = scratch / fmt::format("{}.h5", written);
    const pid_t child = ::fork();
    if (child == 0) {
      const Checkpoint made = create_checkpoint(in, path, Format::hdf5);
      FileStorage source(in, FileStorage::Access::read);
      FileStorage target(made, FileStorage::Access::write);
      for (std::size_t i = 0; i < written; ++i) copy_tensor(source, in.tensors[i], target, made.tensors[i]);
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const Checkpoint back = open_checkpoint(path);
    ASSERT_EQ(back.tensors.size(), in.tensors.size());
    for (std::size_t i = 0; i < written; ++i)
      EXPECT_EQ(bytes_of(back, back.tensors[i]), bytes_of(in, in.tensors[i]));
  }
}

}  // namespace
}  // namespace lox
