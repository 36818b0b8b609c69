// SPDX-License-Identifier: MIT
#include "lox/io/other_files.hpp"

#include <string>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;

TEST(OtherFiles, NamesMustStayBelow) {
  for (const char* const good : {"a", "a/b", "..a", "a/...", "☕"})
    EXPECT_NO_THROW(check_other_file_name(good, "f"));
  for (const std::string& bad : {std::string(""), std::string("/a"), std::string("a/"), std::string("a//b"),
                                 std::string(".."), std::string("a/../b"), std::string("./a"),
                                 std::string("a\0b", 3), std::string("\xFF"), std::string(256, 'x')}) {
    expect_error(ExitCode::bad_input, [&] { check_other_file_name(bad, "f"); }, {"refused"});
  }
}

TEST(OtherFiles, WeightsInOtherFormsAreKnown) {
  for (const char* const name :
       {"pytorch_model.bin", "a/b.pth", "x.pt", "x.gguf", "tf_model.h5", "x.hdf5", "x.msgpack", "x.ckpt",
        "consolidated.safetensors", "original/params.json", "pytorch_model.bin.index.json"}) {
    EXPECT_TRUE(is_foreign_weights(name)) << name;
  }
  for (const char* const name : {"config.json", "model.safetensors.index.json", "tokenizer.model",
                                 "merges.txt", "model.py", "README.md", "originals/a.txt"}) {
    EXPECT_FALSE(is_foreign_weights(name)) << name;
  }
}

}  // namespace
}  // namespace lox
