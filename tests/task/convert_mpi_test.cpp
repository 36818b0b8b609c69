// SPDX-License-Identifier: MIT
#include "lox/base/stop.hpp"
#include "lox/io/output.hpp"
#include "lox/task/convert.hpp"

#include <unistd.h>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;
using testing::put;
using testing::put_odd_model;
using testing::Scratch;

/// One folder for all ranks, filled by rank 0.
class Convert : public ::testing::Test {
 protected:
  Convert() : comm_(Comm::world()), root_(comm_.broadcast(scratch_.path().string())) {
    if (comm_.is_root()) put_odd_model(root_ / "in");
    comm_.barrier();
  }
  ~Convert() override {
    forget_stop();
    comm_.barrier();
  }

  void expect_refused(const std::string& from, const std::string& to, bool overwrite,
                      std::initializer_list<std::string_view> parts) {
    expect_error(
        ExitCode::bad_input, [&] { convert(comm_, root_ / from, root_ / to, overwrite); }, parts);
  }

  Scratch scratch_;
  Comm comm_;
  fs::path root_;
};

TEST_F(Convert, ThereAndBackIsTheSame) {
  const std::optional<std::uint64_t> there = convert(comm_, root_ / "in", root_ / "x.h5", false);
  EXPECT_EQ(convert(comm_, root_ / "x.h5", root_ / "out/", false), there);
  EXPECT_EQ(testing::tree(root_ / "out"), testing::tree(root_ / "in"));
  convert(comm_, root_ / "in", root_ / "same", false);
  EXPECT_EQ(testing::tree(root_ / "same"), testing::tree(root_ / "in"));
  convert(comm_, root_ / "in/model-00002-of-00002.safetensors", root_ / "y.hdf5", false);
  convert(comm_, root_ / "y.hdf5", root_ / "y.safetensors", false);
  EXPECT_EQ(testing::get(root_ / "y.safetensors"),
            testing::get(root_ / "in/model-00002-of-00002.safetensors"));
}

TEST_F(Convert, ReplacesOnlyWhenTold) {
  convert(comm_, root_ / "in", root_ / "out", false);
  EXPECT_FALSE(convert(comm_, root_ / "in", root_ / "out", false));  // finished already
  comm_.barrier();
  if (comm_.is_root()) put(root_ / "out/old.txt", "old");
  comm_.barrier();
  expect_refused("in", "out", false, {"exists", "--overwrite"});
  comm_.barrier();
  convert(comm_, root_ / "in", root_ / "out", true);
  EXPECT_EQ(testing::tree(root_ / "out"), testing::tree(root_ / "in"));
  convert(comm_, root_ / "in", root_ / "x.h5", false);
  convert(comm_, root_ / "in", root_ / "x.h5", true);
  comm_.barrier();
  if (comm_.is_root()) {
    // The outputs, the input, and nothing else.
    EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 3);
  }
}

TEST_F(Convert, DoesNotReplaceWhatIsNoModel) {
  if (comm_.is_root()) {
    put(root_ / "home/diary.txt", "dear diary");
    put(root_ / "file", "x");
    fs::create_directories(root_ / "folder.h5");
  }
  comm_.barrier();
  expect_refused("in", "home", true, {"home", "by hand"});
  expect_refused("in", "file", true, {"file", "by hand"});
  expect_refused("in", "folder.h5", true, {"folder.h5", "by hand"});
}

TEST_F(Convert, LeavesNothingBehindWhenItFails) {
  expect_refused("nothing", "x.h5", false, {"nothing"});
  if (comm_.is_root()) put(root_ / "bad.safetensors", "bad");
  comm_.barrier();
  expect_refused("bad.safetensors", "out", false, {"bad.safetensors"});
  comm_.barrier();
  if (comm_.is_root()) {
    EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 2);
  }
  comm_.barrier();
}

TEST_F(Convert, ALeftoverIsNotTouchedUnlessToldTo) {
  if (comm_.is_root()) put(root_ / "out.partial/model.safetensors", "hours of work");
  comm_.barrier();
  expect_refused("in", "out", false, {"out.partial", "did not finish"});
  EXPECT_EQ(testing::get(root_ / "out.partial/model.safetensors"), "hours of work");
  comm_.barrier();
  convert(comm_, root_ / "in", root_ / "out", true);
  EXPECT_FALSE(fs::exists(root_ / "out.partial"));
}

TEST_F(Convert, OutputAndInputStayApart) {
  if (!comm_.is_root()) return;
  const auto refuse = [&](const fs::path& output, const fs::path& input,
                          std::initializer_list<std::string_view> parts) {
    SCOPED_TRACE(output);
    expect_error(
        ExitCode::bad_input,
        [&] {
          check_output(output, {true, {root_ / "other", input}});
        },
        parts);
  };
  refuse(root_ / "in", root_ / "in", {"same"});
  refuse(root_ / "in/", root_ / "in", {"same"});
  refuse(root_ / "x/../in", root_ / "in", {"same"});
  refuse(root_ / "in/sub", root_ / "in", {"inside one another"});
  refuse(root_ / "in/x.h5", root_ / "in", {"inside one another"});
  refuse(root_, root_ / "in", {"inside one another"});
  refuse(root_ / "x.h5", root_ / "x.h5.partial", {"same"});
  fs::create_directory_symlink(root_ / "in", root_ / "link");
  refuse(root_ / "link", root_ / "in", {"same"});
  refuse(root_ / "link/x", root_ / "in", {"inside one another"});
  EXPECT_NO_THROW(check_output(root_ / "in2", {false, {root_ / "in"}}));
  refuse(root_ / "no/such/x.h5", root_ / "in", {"no/such", "does not exist"});
  refuse(root_ / "in/config.json/x", root_ / "a", {"does not exist"});
  refuse("", root_ / "in", {"empty"});
}

TEST_F(Convert, AFolderWithoutPermissionIsFoundEarly) {
  if (!comm_.is_root()) return;
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  fs::create_directory(root_ / "locked");
  fs::permissions(root_ / "locked", fs::perms::owner_read | fs::perms::owner_exec);
  expect_error(ExitCode::bad_input, [&] { check_output(root_ / "locked/x", {}); }, {"permission"});
}

// The last one: a stop request cannot be taken back.
TEST_F(Convert, StopsWhenOneRankIsAskedToAndLeavesNothing) {
  if (comm_.rank() == comm_.size() - 1) request_stop(1);
  expect_error(ExitCode::stopped, [&] { convert(comm_, root_ / "in", root_ / "out", false); }, {"stopped"});
  comm_.barrier();
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 1);
}

}  // namespace
}  // namespace lox
