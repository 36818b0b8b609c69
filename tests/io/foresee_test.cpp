// SPDX-License-Identifier: MIT
#include "lox/io/identity.hpp"
#include "lox/io/output.hpp"

#include <map>

#include "io/models.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

using State = Output::State;

class ForeseeTest : public ::testing::Test {
 protected:
  ForeseeTest() {
    testing::put_model(in_, 2);
    like_ = open_checkpoint(in_);
  }
  Output open(int k = 6) { return Output::open(out_, {false, {in_}}, like_, {{"k", k}}, {}); }
  /// What is foreseen; nothing must be touched on the way.
  State foresee(int k = 6, bool overwrite = false) {
    const std::map<std::string, std::string> before = tree();
    const auto compare = [&] { EXPECT_EQ(tree(), before); };
    try {
      const State state = Output::foresee(out_, {overwrite, {in_}}, like_, {{"k", k}});
      compare();
      return state;
    } catch (...) {
      compare();
      throw;
    }
  }
  std::map<std::string, std::string> tree() {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
      files[entry.path()] = entry.is_regular_file() ? testing::get(entry.path()) : "";
    }
    return files;
  }

  testing::Scratch scratch_;
  fs::path in_ = scratch_ / "in.safetensors";
  fs::path out_ = scratch_ / "out.safetensors";
  Checkpoint like_;
};

TEST_F(ForeseeTest, NothingThere) {
  EXPECT_EQ(foresee(), State::fresh);
}

TEST_F(ForeseeTest, UnfinishedOfThisJobAndOfAnother) {
  { const Output left = open(); }
  EXPECT_EQ(foresee(), State::resumed);
  EXPECT_EQ(open().state(), State::resumed);
  testing::expect_error(ExitCode::bad_input, [&] { foresee(7); }, {"belongs to another job", "k is 7"});
  EXPECT_EQ(foresee(7, true), State::fresh);
}

TEST_F(ForeseeTest, HeldByAJobAtWork) {
  const Output held = open();
  testing::expect_error(ExitCode::bad_input, [&] { foresee(); }, {"another job is writing this output"});
}

TEST_F(ForeseeTest, NamedButNotClosed) {
  open().publish();
  EXPECT_EQ(foresee(), State::published);
  EXPECT_EQ(open().state(), State::published);
}

TEST_F(ForeseeTest, SomethingElseThere) {
  testing::put(out_, "mine");
  testing::expect_error(ExitCode::bad_input, [&] { foresee(); }, {"exists already"});
  EXPECT_EQ(foresee(6, true), State::fresh);
}

TEST(Room, OutputsOfOneFileSystemCountTogether) {
  const testing::Scratch scratch;
  const std::uint64_t most = free_space(scratch.path());
  const auto part = [&](const char* name, std::uint64_t share) {
    return Room{scratch / name, most / 10 * share};
  };
  EXPECT_NO_THROW(check_space({}));
  EXPECT_NO_THROW(check_space({part("a", 4)}));
  EXPECT_NO_THROW(check_space({part("a", 4), part("b", 4)}));
  testing::expect_error(ExitCode::io,
                        [&] {
                          check_space({part("a", 4), part("b", 4), part("c", 4)});
                        },
                        {"a: it and 2 more outputs need"});
  testing::expect_error(ExitCode::io, [&] { check_space({part("a", 12)}); }, {"a: the output needs"});
  EXPECT_NO_THROW(check_space({part("a", 6), {"/dev/shm/b", free_space("/dev/shm") / 2}}));  // another one
}

}  // namespace
}  // namespace lox
