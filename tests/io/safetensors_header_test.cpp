// SPDX-License-Identifier: MIT
#include "lox/io/safetensors_header.hpp"

#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;
using testing::framed;
using testing::put;
using testing::Scratch;

/// Opens bytes as one safetensors file.
Checkpoint open_bytes(const std::string& bytes) {
  const Scratch scratch;
  put(scratch / "x.safetensors", bytes);
  return open_checkpoint(scratch / "x.safetensors");
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string_view> parts) {
  SCOPED_TRACE(printable(bytes));
  expect_error(
      ExitCode::bad_input, [&] { open_bytes(bytes); }, parts);
}

/// A header of one tensor.
std::string one(const std::string& entry, const std::string& name = "t") {
  return "{\"" + name + "\":" + entry + "}";
}

// ---- the reference implementation's own test vectors ----

TEST(SafetensorsHeader, JsonAttack) {
  // Ten tensors over the same bytes.
  std::string header = "{";
  for (int i = 0; i < 10; ++i) {
    header +=
        fmt::format(R"({}"w{}":{{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", i == 0 ? "" : ",", i);
  }
  expect_refused(framed(header + "}", std::string(16, '\0')), {"x.safetensors", "w1", "overlap"});
}

TEST(SafetensorsHeader, MetadataIncompleteBuffer) {
  const std::string header = one(R"({"dtype":"F32","shape":[2,2],"data_offsets":[0,16]})");
  expect_refused(framed(header, std::string(17, 'x')), {"added at its end"});
  expect_refused(framed(header, std::string(15, 'x')), {"cut short"});
  expect_refused(framed(one(R"({"dtype":"F32","shape":[2,2],"data_offsets":[4,20]})"), std::string(20, 'x')),
                 {"hole"});
}

TEST(SafetensorsHeader, HeaderTooLargeTooSmallOrBeyondTheFile) {
  expect_refused("<\0\0\0\0", {"too few"});
  expect_refused("", {"too few"});
  expect_refused(std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8), {"100000000"});
  expect_refused(std::string("\x01\xE1\xF5\x05\0\0\0\0", 8), {"100000001", "more than"});
  expect_refused(std::string("\x00\xE1\xF5\x05\0\0\0\0", 8), {"100000000", "only 8"});
  expect_refused(std::string("<\0\0\0\0\0\0\0", 8), {"60 bytes"});
  expect_refused(std::string("\0\0\0\0\0\0\0\0", 8), {"JSON"});
}

TEST(SafetensorsHeader, HeaderNotUtf8NotJsonNotAnObject) {
  expect_refused(framed("\xFF"), {"JSON"});
  expect_refused(framed("{\"\xFF\":1}"), {"JSON"});
  expect_refused(framed("{"), {"JSON"});
  expect_refused(framed("[]"), {"object"});
  expect_refused(framed("3"), {"object"});
  expect_refused(framed("{} x"), {"JSON"});
  expect_refused(framed(std::string("{}\0 garbage", 11)), {"NUL"});
  expect_refused(framed("\xEF\xBB\xBF{}"), {"byte order mark"});
}

TEST(SafetensorsHeader, ZeroSizedTensorAndEmptyFile) {
  const Checkpoint zero = open_bytes(framed(one(R"({"dtype":"F32","shape":[2,0],"data_offsets":[0,0]})")));
  EXPECT_EQ(zero.tensors.at(0).shape, (std::vector<std::int64_t>{2, 0}));
  EXPECT_EQ(zero.tensors.at(0).elements(), 0);
  EXPECT_TRUE(open_bytes(framed("{}")).tensors.empty());
  EXPECT_TRUE(open_bytes(framed(R"({"__metadata__":{}})")).tensors.empty());
}

TEST(SafetensorsHeader, InvalidInfo) {
  expect_refused(framed(one(R"({"dtype":"F32","shape":[2,2],"data_offsets":[0,4]})"), "xxxx"),
                 {"tensor t", "16 bytes"});
  expect_refused(framed(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"), "xxxx"),
                 {"before it begins"});
}

TEST(SafetensorsHeader, ValidationOverflow) {
  for (const char* const shape :
       {"[2,18446744073709551614]", "[2,9223372036854775807]", "[9007199254740993]",
        "[4503599627370496,4503599627370496]", "[0,9007199254740992,9007199254740992]"}) {
    const std::string entry = fmt::format(R"({{"dtype":"F32","shape":{},"data_offsets":[0,16]}})", shape);
    expect_refused(framed(one(entry), std::string(16, 'x')), {"tensor t"});
  }
}

TEST(SafetensorsHeader, ForcedAlignment) {
  // The reference writer's bytes for one tensor: fields in this order, padded with spaces to a multiple of 8.
  TensorInfo tensor;
  tensor.name = "attn0";
  tensor.shape = {1, 1, 2, 3};
  const std::string header = make_safetensors_header({tensor});
  EXPECT_EQ(header.size() % 8, 0U);
  EXPECT_EQ(
      header.substr(0, header.find_last_not_of(' ') + 1),
      R"({"__metadata__":{"format":"pt"},"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}})");
}

// ---- where lox is stricter, or has a choice ----

TEST(SafetensorsHeader, WhitespaceAroundTheHeaderIsFine) {
  const std::string header =
      " \n\t\r" + one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})") + "\n   \t";
  const Checkpoint model = open_bytes(framed(header, "x"));
  EXPECT_EQ(model.tensors.at(0).extent.offset, 8 + header.size());
  EXPECT_EQ(model.shards.at(0).header, header);
}

TEST(SafetensorsHeader, KeysMustDiffer) {
  const std::string entry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  expect_refused(framed("{\"t\":" + entry + ",\"t\":" + entry + "}"), {"t", "twice"});
  expect_refused(framed(one(R"({"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]})")),
                 {"dtype", "twice"});
  expect_refused(framed(R"({"__metadata__":{"a":"b","a":"b"}})"), {"twice"});
  expect_refused(framed(R"({"__metadata__":{},"__metadata__":{}})"), {"twice"});
}

TEST(SafetensorsHeader, NumbersMustBeWholeAndSmall) {
  for (const char* const number :
       {"1.0", "1e0", "-1", "-0", "\"1\"", "null", "true", "9007199254740993", "[1]"}) {
    expect_refused(
        framed(one(fmt::format(R"({{"dtype":"U8","shape":[{}],"data_offsets":[0,1]}})", number)), "x"),
        {"tensor t", "shape"});
    expect_refused(
        framed(one(fmt::format(R"({{"dtype":"U8","shape":[1],"data_offsets":[0,{}]}})", number)), "x"),
        {"tensor t", "data_offsets"});
  }
}

TEST(SafetensorsHeader, EntriesMustBeWhole) {
  expect_refused(framed(one(R"({"shape":[1],"data_offsets":[0,1]})"), "x"), {"no dtype"});
  expect_refused(framed(one(R"({"dtype":"U8","data_offsets":[0,1]})"), "x"), {"no shape"});
  expect_refused(framed(one(R"({"dtype":"U8","shape":[1]})"), "x"), {"data_offsets"});
  expect_refused(framed(one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,1]})"), "x"), {"two numbers"});
  expect_refused(framed(one(R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})"), "x"), {"not an array"});
  expect_refused(framed(one(R"({"dtype":"U8","shape":{"a":1},"data_offsets":[0,1]})"), "x"),
                 {"not an array"});
  expect_refused(framed(one(R"({"dtype":8,"shape":[1],"data_offsets":[0,1]})"), "x"), {"dtype"});
  expect_refused(framed(one(R"({"dtype":"BF17","shape":[1],"data_offsets":[0,1]})"), "x"), {"BF17"});
  expect_refused(framed(one("3")), {"tensor t", "object"});
  expect_refused(framed(one("[]")), {"tensor t", "object"});
}

TEST(SafetensorsHeader, FieldsThatNoOneKnowsAreLeftAlone) {
  const std::string entry = R"({"dtype":"U8","x":{"y":[{"dtype":1}]},"shape":[1],"data_offsets":[0,1]})";
  EXPECT_EQ(open_bytes(framed(one(entry), "x")).tensors.at(0).shape, std::vector<std::int64_t>{1});
}

TEST(SafetensorsHeader, NestingIsBounded) {
  const std::string deep(100000, '[');
  expect_refused(framed(deep), {"object"});
  expect_refused(framed("{\"t\":{\"x\":" + deep), {"deep"});
}

TEST(SafetensorsHeader, PackedTypesFillWholeBytes) {
  EXPECT_EQ(open_bytes(framed(one(R"({"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]})"), "xxx")).bytes(),
            3U);
  expect_refused(framed(one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})"), "xx"),
                 {"whole number of bytes"});
}

TEST(SafetensorsHeader, MetadataMapsTextsToTexts) {
  expect_refused(framed(R"({"__metadata__":{"a":1}})"), {"__metadata__"});
  expect_refused(framed(R"({"__metadata__":{"a":{"b":"c"}}})"), {"__metadata__"});
  expect_refused(framed(R"({"__metadata__":[]})"), {"__metadata__"});
  EXPECT_EQ(parse_safetensors_header(R"({"__metadata__":{"DCP_SHARDING_INFO":"{}"}})", "x").sharding, "{}");
  EXPECT_EQ(parse_safetensors_header(R"({"__metadata__":{"format":"pt"}})", "x").sharding, std::nullopt);
  EXPECT_TRUE(open_bytes(framed(R"({"__metadata__":{"b":"1","a":"2"}})")).tensors.empty());
}

TEST(SafetensorsHeader, NamesWithNulAreRefused) {
  expect_refused(framed(one(R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})", "a\\u0000b")),
                 {"a\\x00b", "NUL"});
}

TEST(SafetensorsHeader, TensorsComeInTheOrderOfTheirBytes) {
  const Checkpoint model = open_bytes(framed(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},)"
                                             R"("z":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
                                             R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                             "xyz"));
  ASSERT_EQ(model.tensors.size(), 3U);
  EXPECT_EQ(model.tensors[0].name, "a");
  EXPECT_EQ(model.tensors[1].name, "z");
  EXPECT_EQ(model.tensors[2].name, "b");
}

}  // namespace
}  // namespace lox
