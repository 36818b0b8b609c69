// SPDX-License-Identifier: MIT
#include "lox/io/json.hpp"

#include "lox/base/error.hpp"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// Deep nesting costs memory by the byte: it ends early.
TEST(Json, ValuesAreNotDeep) {
  EXPECT_EQ(parse_json(R"({"a": [1, 2]})")["a"][1], 2);
  EXPECT_TRUE(parse_json("{").is_null());
  EXPECT_TRUE(parse_json("").is_null());
  EXPECT_FALSE(parse_json(std::string(60, '[') + std::string(60, ']')).is_null());
  EXPECT_TRUE(parse_json(std::string(70, '[') + std::string(70, ']')).is_null());
  EXPECT_TRUE(parse_json(std::string(std::size_t{16} << 20, '[')).is_null());
}

/// Some terminals obey U+0080 to U+009F.
TEST(Printable, ControlCharactersOfUnicodeAreEscaped) {
  EXPECT_EQ(printable("a\xC2\x9B"
                      "2J"),
            "a\\xc2\\x9b2J");
  EXPECT_EQ(printable("\xC2\xA0\xC3\xA9"), "\xC2\xA0\xC3\xA9");
}

}  // namespace
}  // namespace lox
