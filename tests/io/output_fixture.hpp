// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/output.hpp"

#include "io/models.hpp"
#include <gtest/gtest.h>

namespace lox::testing {

/// An output of a small model, and what a killed job leaves of it.
class OutputTest : public ::testing::Test {
 protected:
  OutputTest() {
    put_model(in_, 2);
    like_ = open_checkpoint(in_);
  }

  Output open(bool overwrite = false) {
    return Output::open(out_, {overwrite, {in_}}, like_, identity_, {{"items", 5}});
  }
  /// What a job leaves that was killed after its first item.
  void leave_unfinished(bool overwrite = false) {
    const Output output = open(overwrite);
    put(paths_.journal / "rank-00000.jsonl", "work\n");
  }
  /// Expects that going on is refused, in words that hold `parts`, and everything stays as it is.
  void expect_refused(std::initializer_list<std::string_view> parts) {
    const std::string sign = get(paths_.sign());
    const std::string partial = get(paths_.partial);
    expect_error(
        ExitCode::bad_input, [&] { open(); }, parts);
    EXPECT_EQ(get(paths_.sign()), sign);
    EXPECT_EQ(get(paths_.partial), partial);
    EXPECT_EQ(get(paths_.journal / "rank-00000.jsonl"), "work\n");
  }

  Scratch scratch_;
  fs::path in_ = scratch_ / "in.safetensors";
  fs::path out_ = scratch_ / "out.safetensors";
  OutputPaths paths_{out_};
  Checkpoint like_;
  nlohmann::json test_{{"task", "test"}};
  nlohmann::json identity_{{"job", {{"k", 6}, {"words", {"a", "b"}}}}, {"model", "m"}};
};

}  // namespace lox::testing
