// SPDX-License-Identifier: MIT
#include "lox/io/output_place.hpp"

#include "io/output_fixture.hpp"

namespace lox {
namespace {

class OutputPlace : public testing::OutputTest {};
using State = Output::State;

/// Whatever comes to stand in the output's place while a job is at work stays there, and the work waits.
TEST_F(OutputPlace, WhatCameInBetweenStays) {
  for (const bool overwrite : {false, true}) {
    Output output = open(overwrite);
    testing::put(out_, "somebody's");
    testing::expect_error(ExitCode::bad_input, [&] { output.publish(); },
                          {"was put there while lox ran", paths_.partial.string()});
    EXPECT_EQ(testing::get(out_), "somebody's");
    EXPECT_TRUE(fs::exists(paths_.partial));
    fs::remove(out_);
    output.publish();
    EXPECT_EQ(fs::file_size(out_), fs::file_size(in_));
    output.close();
    fs::remove(out_);
  }
}

TEST_F(OutputPlace, OverwriteTakesOnlyWhatItNamed) {
  testing::put(out_, "old");
  Output output = open(true);
  fs::rename(out_, scratch_ / "old");  // kept: its inode number is not free
  testing::put(out_, "new");
  testing::expect_error(ExitCode::bad_input, [&] { output.publish(); }, {"was put there while lox ran"});
  EXPECT_EQ(testing::get(out_), "new");
  fs::rename(scratch_ / "old", out_);
  output.publish();
  EXPECT_EQ(testing::get(paths_.replaced()), "old") << "until the new one stands";
  output.close();
  EXPECT_EQ(fs::file_size(out_), fs::file_size(in_));
  EXPECT_FALSE(fs::exists(paths_.journal));
}

/// A crash between the two renames: the next run gives the name; throwing the work away brings the old one
/// back.
TEST_F(OutputPlace, OldOneIsNeverLost) {
  for (const bool goes_on : {true, false}) {
    testing::put(out_, "old");
    { const Output output = open(true); }
    fs::rename(out_, paths_.replaced());
    Output output = open(true);
    EXPECT_EQ(output.state(), State::resumed);
    if (goes_on) {
      output.publish();
      output.close();
      EXPECT_EQ(fs::file_size(out_), fs::file_size(in_));
    } else {
      output.discard();
      EXPECT_EQ(testing::get(out_), "old");
    }
    EXPECT_FALSE(fs::exists(paths_.journal));
    fs::remove(out_);
  }
}

/// The same, met by another task, which replaces the old one as it was told.
TEST_F(OutputPlace, OldOneMetByAnotherTask) {
  testing::put(out_, "old");
  { const Output output = open(true); }
  fs::rename(out_, paths_.replaced());
  Output other = Output::create(out_, {true, {in_}}, like_, test_);
  EXPECT_EQ(testing::get(out_), "old");
  other.publish();
  other.close();
  EXPECT_EQ(fs::file_size(out_), fs::file_size(in_));
  EXPECT_FALSE(fs::exists(paths_.journal));
}

TEST_F(OutputPlace, FoldersOfOthersAreLeftAlone) {
  testing::put(paths_.journal / "diary.txt", "mine");
  testing::expect_error(ExitCode::bad_input, [&] { open(true); }, {"diary.txt", "not a journal of lox"});
  EXPECT_EQ(testing::get(paths_.journal / "diary.txt"), "mine");
  fs::remove_all(paths_.journal);
  testing::put(paths_.journal, "a file");
  testing::expect_error(ExitCode::bad_input, [&] { open(true); }, {"not a journal of lox"});
  EXPECT_EQ(testing::get(paths_.journal), "a file");
  fs::remove(paths_.journal);
  {
    Output output = open();
    testing::put(paths_.journal / "diary.txt", "mine");
    output.publish();
    output.close();
  }
  EXPECT_EQ(testing::get(paths_.journal / "diary.txt"), "mine");
}

TEST_F(OutputPlace, NamesThatLeaveNoRoomAreRefused) {
  const std::size_t room = 255 - std::string(".partial").size();
  EXPECT_NO_THROW(check_output(scratch_ / std::string(room, 'n'), {}));
  for (const std::size_t bytes : {room + 1, std::size_t{255}, std::size_t{300}}) {
    testing::expect_error(ExitCode::bad_input, [&] { check_output(scratch_ / std::string(bytes, 'n'), {}); },
                          {fmt::format("a name of {} bytes", bytes + 8), "255"});
  }
}

TEST_F(OutputPlace, InputInThePlaceOfTheJournalIsRefused) {
  testing::expect_error(ExitCode::bad_input,
                        [&] {
                          check_output(out_, {true, {paths_.journal}});
                        },
                        {"the same"});
  testing::expect_error(ExitCode::bad_input,
                        [&] {
                          check_output(out_, {true, {paths_.journal / "in.h5"}});
                        },
                        {"inside one another"});
}

/// A finished output of another job, in the place where this job was to put its own.
TEST_F(OutputPlace, AnotherOutputInItsPlaceIsNotItsOwn) {
  testing::put(out_, "of another job");
  leave_unfinished(true);
  fs::remove(paths_.partial);
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"exists already"});
  EXPECT_EQ(testing::get(out_), "of another job");
}

}  // namespace
}  // namespace lox
