// SPDX-License-Identifier: MIT
#include "lox/io/output.hpp"

#include "lox/io/identity.hpp"

#include <unistd.h>

#include "io/output_fixture.hpp"

namespace lox {
namespace {

using nlohmann::json;
using testing::OutputTest;
using State = Output::State;

TEST_F(OutputTest, NewOneHasItsFullSizeAndNoName) {
  const Output output = open();
  EXPECT_EQ(output.state(), State::fresh);
  EXPECT_EQ(fs::file_size(paths_.partial), fs::file_size(in_));
  EXPECT_FALSE(fs::exists(out_));
  ASSERT_EQ(output.table().tensors.size(), 4U);
  const OutputStatus status = output_status(out_);
  EXPECT_EQ(status.state, OutputStatus::State::unfinished);
  EXPECT_EQ(status.notes["items"], 5);
  EXPECT_NE(status.holder.find(std::to_string(::getpid())), std::string::npos);
}

TEST_F(OutputTest, GoesOnInTheOrderOfTheModel) {
  leave_unfinished();
  std::swap(like_.tensors[0], like_.tensors[3]);
  const Output output = open();
  EXPECT_EQ(output.state(), State::resumed);
  ASSERT_EQ(output.table().tensors.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(output.table().tensors[i].name, like_.tensors[i].name);
  EXPECT_EQ(testing::get(paths_.journal / "rank-00000.jsonl"), "work\n");
}

TEST_F(OutputTest, TakesASlashAtTheEndAsNothing) {
  EXPECT_EQ(OutputPaths(scratch_ / "x/").partial, scratch_ / "x.partial");
  EXPECT_EQ(OutputPaths(scratch_ / "x/").output, scratch_ / "x");
}

TEST_F(OutputTest, SecondJobIsRefused) {
  const Output first = open();
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"another job", std::to_string(::getpid())});
  testing::expect_error(ExitCode::bad_input, [&] { open(true); }, {"another job"});
  EXPECT_TRUE(fs::exists(paths_.partial));
}

TEST_F(OutputTest, OtherIdentitiesAreNamed) {
  leave_unfinished();
  const json mine = identity_;
  identity_["job"]["k"] = 4;
  expect_refused({"belongs to another job", "job.k is 4 now, but was 6"});
  identity_ = mine;
  identity_["job"]["words"] = {"x"};
  expect_refused({"belongs to another job", "job.words is [\"x\"] now, but was [\"a\",\"b\"]"});
  identity_ = mine;
  identity_["model"] = "n";
  expect_refused({"belongs to another job", "model is \"n\" now, but was \"m\""});
  identity_ = mine;
  EXPECT_EQ(open().state(), State::resumed);
}

TEST_F(OutputTest, OtherVersionOfTheJournalIsNamed) {
  leave_unfinished();
  json sign = json::parse(testing::get(paths_.sign()));
  sign["lox_journal"] = 99;
  testing::put(paths_.sign(), sign.dump());
  expect_refused({"lox_journal is 4 now, but was 99"});
}

TEST_F(OutputTest, SignThatIsNoneIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("{}")}) {
    leave_unfinished(true);
    testing::put(paths_.sign(), text);
    expect_refused({"is not a journal of lox"});
    EXPECT_EQ(output_status(out_).state, OutputStatus::State::unfinished);
    EXPECT_FALSE(unfinished_identity(out_));
    fs::remove(paths_.sign());
  }
}

/// A crash while the skeleton was made: without the sign there is nothing to go on with.
TEST_F(OutputTest, SkeletonWithoutItsSignIsMadeAnew) {
  leave_unfinished();
  fs::remove(paths_.sign());
  testing::put(paths_.partial, "half a skeleton");
  const Output output = open();
  EXPECT_EQ(output.state(), State::fresh);
  EXPECT_EQ(fs::file_size(paths_.partial), fs::file_size(in_));
  EXPECT_FALSE(fs::exists(paths_.journal / "rank-00000.jsonl"));
}

TEST_F(OutputTest, PartialOfNobodyIsNotTouched) {
  testing::put(paths_.partial, "somebody's");
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"without a journal"});
  EXPECT_EQ(testing::get(paths_.partial), "somebody's");
  EXPECT_FALSE(fs::exists(paths_.journal));
}

TEST_F(OutputTest, DamagedSkeletonIsRefused) {
  leave_unfinished();
  std::string bytes = testing::get(paths_.partial);
  bytes.replace(bytes.find("\"norm\""), 6, "\"mron\"");
  testing::put(paths_.partial, bytes);
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"has lost tensor 'norm'"});
}

TEST_F(OutputTest, OverwriteThrowsTheOtherJobAway) {
  leave_unfinished();
  identity_["job"]["k"] = 2;
  EXPECT_EQ(open(true).state(), State::fresh);
  EXPECT_FALSE(fs::exists(paths_.journal / "rank-00000.jsonl"));
}

TEST_F(OutputTest, PublishesAndLeavesNothingElse) {
  {
    Output output = open();
    output.publish();
    EXPECT_TRUE(fs::exists(paths_.journal));
    output.close();
  }
  EXPECT_TRUE(fs::exists(out_));
  EXPECT_FALSE(fs::exists(paths_.partial));
  EXPECT_FALSE(fs::exists(paths_.journal));
  EXPECT_EQ(output_status(out_).state, OutputStatus::State::there);
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"exists already"});
}

/// A crash after the rename: the same job finds it finished, another one finds an output in its way.
TEST_F(OutputTest, PublishedButNotClosed) {
  leave_unfinished();
  open().publish();
  EXPECT_EQ(output_status(out_).state, OutputStatus::State::there);
  const json mine = identity_;
  identity_["job"]["k"] = 2;
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"exists already"});
  identity_ = mine;
  Output output = open();
  EXPECT_EQ(output.state(), State::published);
  output.finish();
  EXPECT_FALSE(fs::exists(paths_.journal));
}

TEST_F(OutputTest, NamedByHandBeforeItWasWhole) {
  leave_unfinished();
  fs::rename(paths_.partial, out_);
  testing::expect_error(ExitCode::bad_input, [&] { open(); },
                        {"before it was finished", paths_.partial.string()});
  fs::rename(out_, paths_.partial);
  EXPECT_EQ(open().state(), State::resumed);
}

/// A crash in the last steps of close(): what is left of the journal says nothing, but something else may.
TEST_F(OutputTest, EmptyJournalBesideAnOutput) {
  { open().publish(); }
  for (const bool has_lock : {true, false}) {
    fs::remove_all(paths_.journal);
    fs::create_directory(paths_.journal);
    if (has_lock) testing::put(paths_.lock(), R"({"pid": 1})");
    const auto vouched = [] { return true; };
    Output output = Output::open(out_, {false, {in_}}, like_, identity_, {}, vouched);
    EXPECT_EQ(output.state(), State::published);
    output.finish();
    EXPECT_FALSE(fs::exists(paths_.journal));
    EXPECT_TRUE(fs::exists(out_));
  }
  fs::create_directory(paths_.journal);
  testing::expect_error(ExitCode::bad_input, [&] { open(); }, {"exists already"});
  EXPECT_FALSE(fs::exists(paths_.journal)) << "it was of no use";
}

TEST_F(OutputTest, DiscardLeavesNothing) {
  open().discard();
  EXPECT_FALSE(fs::exists(paths_.partial));
  EXPECT_FALSE(fs::exists(paths_.journal));
  EXPECT_EQ(output_status(out_).state, OutputStatus::State::absent);
}

/// Without a journal there is nothing to go on with: what is not published goes.
TEST_F(OutputTest, CreatedOneGoesUnlessItIsPublished) {
  { const Output output = Output::create(out_, {}, like_, test_); }
  EXPECT_FALSE(fs::exists(paths_.partial));
  EXPECT_FALSE(fs::exists(out_));
  {
    Output output = Output::create(out_, {}, like_, test_);
    Output moved = std::move(output);
    moved.publish();
    moved.close();
  }
  EXPECT_FALSE(fs::exists(paths_.journal));
  EXPECT_TRUE(fs::exists(out_));
  EXPECT_FALSE(fs::exists(paths_.partial));
}

TEST_F(OutputTest, CreateTouchesNoPartialOfAnother) {
  leave_unfinished();
  testing::expect_error(ExitCode::bad_input, [&] { Output::create(out_, {}, like_, test_); },
                        {"did not finish"});
  EXPECT_EQ(open().state(), State::resumed);
}

/// What was whole, but could not be given its name, gets it by the same command.
TEST_F(OutputTest, CreatedOneThatIsWholeWaits) {
  for (const bool published : {false, true}) {
    {
      Output output = Output::create(out_, {}, like_, test_);
      testing::put(out_, "somebody's");
      testing::expect_error(ExitCode::bad_input, [&] { output.publish(); }, {"was put there while lox ran"});
    }
    EXPECT_EQ(testing::get(out_), "somebody's");
    fs::remove(out_);
    testing::expect_error(ExitCode::bad_input,
                          [&] {
                            Output::create(out_, {}, like_, {{"task", "another"}});
                          },
                          {"did not finish"});
    if (published) Output::create(out_, {}, like_, test_).publish();
    Output output = Output::create(out_, {}, like_, test_);
    EXPECT_EQ(output.state(), published ? State::published : State::resumed);
    output.finish();
    EXPECT_EQ(fs::file_size(out_), fs::file_size(in_));
    EXPECT_FALSE(fs::exists(paths_.partial) || fs::exists(paths_.journal));
    fs::remove(out_);
  }
}

/// Whose journal was taken away knows no longer whose the partial is.
TEST_F(OutputTest, WithoutItsLockNothingIsRemoved) {
  Output output = Output::create(out_, {}, like_, test_);
  fs::remove_all(paths_.journal);
  leave_unfinished(true);
  output.discard();
  EXPECT_EQ(open().state(), State::resumed);
}

/// As long as any rank of a job lives, no other gets at the output.
TEST_F(OutputTest, RankThatOutlivesItsJobKeepsOthersOut) {
  const std::string token = json::parse((open(), testing::get(paths_.lock()))).at("token");
  {
    const OutputLock rank(paths_.lock(), 2, token);
    testing::expect_error(ExitCode::bad_input, [&] { open(true); }, {"another job", "rank 2 still runs"});
    EXPECT_TRUE(output_status(out_).holder.ends_with("of which rank 2 still runs"))
        << output_status(out_).holder;
  }
  testing::expect_error(ExitCode::io, [&] { const OutputLock rank(paths_.lock(), 1, "0"); },
                        {"not the lock"});
  EXPECT_EQ(open().state(), State::resumed);
}

}  // namespace
}  // namespace lox
