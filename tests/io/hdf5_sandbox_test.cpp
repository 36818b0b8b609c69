// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_sandbox.hpp"

#include <array>
#include <string>

#include "io/foreign_hdf5.hpp"
#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;
using testing::ForeignFile;
using testing::Scratch;

void put_foreign_file(const fs::path& path) {
  const std::array<float, 2> values{1, 2};
  ForeignFile(path).add("net/w", H5T_IEEE_F32LE, {2}, H5T_NATIVE_FLOAT, values.data());
}

TEST(Hdf5Sandbox, ReadsWhatTheLibraryReadsHere) {
  const Scratch scratch;
  const fs::path path = scratch / "odd \xff\n\" --name=x.h5";
  put_foreign_file(path);
  const Hdf5Structure here = read_hdf5_structure(path);
  ASSERT_EQ(here.tensors.size(), 1U);
  EXPECT_EQ(inspect_sandboxed(path).to_text(), here.to_text());
}

TEST(Hdf5Sandbox, FilesThatAreOnlyLongOpen) {
  const Scratch scratch;
  const fs::path path = scratch / "x.h5";
  put_foreign_file(path);
  fs::resize_file(path, std::uintmax_t{1} << 40);
  EXPECT_EQ(inspect_sandboxed(path).tensors.at(0).name, "net.w");
}

TEST(Hdf5Sandbox, FilesThatAreGoneAreBadInput) {
  const Scratch scratch;
  expect_error(ExitCode::bad_input, [&] { inspect_sandboxed(scratch / "x.h5"); }, {"x.h5", "HDF5"});
}

TEST(Hdf5Sandbox, OtherProgramsAreNoReaders) {
  const std::array<const char*, 4> words{"lox", "--read-hdf5-structure", "1", "x.h5"};
  EXPECT_EQ(run_if_sandboxed_reader(4, words.data()), std::nullopt);  // nobody started this process so
  EXPECT_EQ(run_if_sandboxed_reader(1, words.data()), std::nullopt);
}

}  // namespace
}  // namespace lox
