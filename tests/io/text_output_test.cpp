// SPDX-License-Identifier: MIT
#include "lox/io/text_output.hpp"

#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using testing::Scratch;
using State = TextOutput::State;

const json one{{"task", "analyze"}, {"job", {{"k", 6}}}};
const json other{{"task", "analyze"}, {"job", {{"k", 7}}}};

TextOutput open(const fs::path& path, const json& identity, bool overwrite = false) {
  return TextOutput(path, {overwrite, {}}, identity, json{{"items", 3}});
}

bool is_empty(const Scratch& scratch) {
  return fs::directory_iterator(scratch.path()) == fs::directory_iterator();
}

TEST(TextOutput, IsResumedUntilItIsFinished) {
  const Scratch scratch;
  const fs::path path = scratch / "r.json";
  EXPECT_EQ(open(path, one).state(), State::fresh);
  {
    TextOutput output = open(path, one);
    EXPECT_EQ(output.state(), State::resumed);
    EXPECT_FALSE(fs::exists(path));
    output.finish({{"lox", "1"}, {"x", 0.25}});
  }
  EXPECT_FALSE(fs::exists(scratch / "r.json.journal"));
  TextOutput again = open(path, one);
  EXPECT_EQ(again.state(), State::finished);
  EXPECT_EQ(again.text().at("x"), 0.25);
  again.finish();
  EXPECT_FALSE(fs::exists(scratch / "r.json.journal"));
}

TEST(TextOutput, WhatEndsBehindTheTextIsFinished) {
  const Scratch scratch;
  const fs::path path = scratch / "r.json";
  open(path, one).finish({{"lox", "1"}});
  fs::create_directory(scratch / "r.json.journal");  // as if the run had ended before it removed that
  testing::put(scratch / "r.json.journal" / "rank-00000.jsonl", "x\n");
  TextOutput again = open(path, one);
  EXPECT_EQ(again.state(), State::finished);
  again.finish();
  EXPECT_FALSE(fs::exists(scratch / "r.json.journal"));
}

TEST(TextOutput, AnotherJobIsRefused) {
  const Scratch scratch;
  const fs::path path = scratch / "r.json";
  (void)open(path, one);
  testing::expect_error(ExitCode::bad_input, [&] { open(path, other); }, {"r.json", "another job", "k"});
  EXPECT_EQ(open(path, one).state(), State::resumed);
  EXPECT_EQ(open(path, other, true).state(), State::fresh);
  open(path, other).finish({{"lox", "1"}});
  testing::expect_error(ExitCode::bad_input, [&] { open(path, one); }, {"r.json", "exists already"});
  EXPECT_FALSE(fs::exists(scratch / "r.json.journal"));
  EXPECT_EQ(open(path, one, true).state(), State::fresh);
  EXPECT_TRUE(fs::exists(path));  // until the new text stands
}

TEST(TextOutput, OnlyTextsOfLoxAreReplaced) {
  const Scratch scratch;
  for (const char* text : {"{}", "[1]", "not JSON", R"({"lox": 1})"}) {
    testing::put(scratch / "r.json", text);
    testing::expect_error(ExitCode::bad_input, [&] { open(scratch / "r.json", one, true); }, {"by hand"});
    EXPECT_EQ(read_text(scratch / "r.json", 100), text);
    EXPECT_FALSE(fs::exists(scratch / "r.json.journal"));
  }
  fs::create_directory(scratch / "folder");
  testing::expect_error(ExitCode::bad_input, [&] { open(scratch / "folder", one, true); }, {"by hand"});
}

TEST(TextOutput, TwoJobsAtOnce) {
  const Scratch scratch;
  {
    TextOutput first = open(scratch / "r.json", one);
    testing::expect_error(ExitCode::bad_input, [&] { open(scratch / "r.json", one); },
                          {"another job is writing"});
    first.discard();
  }
  EXPECT_TRUE(is_empty(scratch));
}

}  // namespace
}  // namespace lox
