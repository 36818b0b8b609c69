// SPDX-License-Identifier: MIT
#include "lox/io/identity.hpp"

#include <chrono>

#include "io/models.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

TEST(Identity, IsOfFilesAndTable) {
  const testing::Scratch scratch;
  const fs::path in = scratch / "in.safetensors";
  testing::put_model(in, 2);
  const Checkpoint like = open_checkpoint(in);
  const nlohmann::json before = identity_of(like);
  EXPECT_EQ(identity_of(open_checkpoint(in)), before);
  EXPECT_NO_THROW(check_unchanged("aligned", like, before));
  // The same size and time, another shape.
  const auto time = fs::last_write_time(in);
  std::string bytes = testing::get(in);
  bytes.replace(bytes.find("[4,6]"), 5, "[6,4]");
  testing::put(in, bytes);
  fs::last_write_time(in, time);
  EXPECT_NE(first_difference(identity_of(open_checkpoint(in)), before, "x").find("x.headers"),
            std::string::npos);
  fs::last_write_time(in, time + std::chrono::nanoseconds(1));
  testing::expect_error(ExitCode::io, [&] { check_unchanged("aligned", like, before); },
                        {"the aligned model was changed while lox ran", "aligned.files"});
  fs::remove(in);
  testing::expect_error(ExitCode::io, [&] { check_unchanged("base", like, before); },
                        {"the base model vanished while lox ran"});
}

}  // namespace
}  // namespace lox
