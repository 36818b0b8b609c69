// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_layout.hpp"

#include "io/foreign_hdf5.hpp"
#include "io/models.hpp"

namespace lox {
namespace {

using testing::expect_error;
using testing::ForeignFile;
using testing::Scratch;

TEST(Hdf5Layout, LinkNamesDiffer) {
  EXPECT_EQ(
      hdf5_link_names({"a.b", "a/b", "a%2Fb", "", ".", "..", "%", "x/%", "%2E"}),
      (std::vector<std::string>{"a.b", "a%2Fb%", "a%2Fb", "%%", "%2E%", "%2E%2E", "%", "x%2F%25", "%2E"}));
}

/// A file in lox's layout whose /layout has this text.
Checkpoint open_with_layout(const fs::path& path, const std::string& layout, int version = 1,
                            const char* other_file = nullptr) {
  ForeignFile file(path);
  const std::uint8_t byte = 7;
  file.add("tensors/t", H5T_STD_U8LE, {1}, H5T_NATIVE_UINT8, &byte, "U8");
  if (!layout.empty()) file.add("layout", H5T_STD_U8LE, {layout.size()}, H5T_NATIVE_UINT8, layout.data());
  if (other_file != nullptr)
    file.add((std::string("files/") + other_file).c_str(), H5T_STD_U8LE, {1}, H5T_NATIVE_UINT8, &byte);
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute = H5Acreate2(file.id(), "lox_format", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, H5T_NATIVE_INT, &version);
  H5Aclose(attribute);
  H5Sclose(space);
  return file.open();
}

TEST(Hdf5Layout, MustFitTheDatasets) {
  const Scratch scratch;
  const fs::path path = scratch / "x.h5";
  const auto layout = [](const std::string& header, const std::string& name = "model.safetensors") {
    return fmt::format(R"({{"shards":[{{"name":"{}","header":"{}"}}]}})", name, header);
  };
  const std::string good = R"({\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}})";
  EXPECT_EQ(open_with_layout(path, layout(good)).shards.size(), 1U);
  EXPECT_TRUE(open_with_layout(path, "").shards.empty());
  const auto refuse = [&](const std::string& text, std::initializer_list<std::string_view> parts) {
    expect_error(
        ExitCode::bad_input, [&] { open_with_layout(path, text); }, parts);
  };
  refuse("{", {"/layout", "JSON"});
  refuse(R"({"shards":[]})", {"does not name tensor t"});
  refuse(layout(R"({\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}})"), {"names tensor u"});
  refuse(layout(R"({\"t\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}})"), {"names tensor t"});
  refuse(layout(R"({\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}})"), {"hole"});
  refuse(layout(R"({\"__metadata__\":{\"DCP_SHARDING_INFO\":\"{}\"},)" + good.substr(1)),
         {"parts of tensors"});
  for (const char* const name : {"../x", "a/b", "", "/x"}) refuse(layout(good, name), {"x.h5"});
  expect_error(ExitCode::bad_input, [&] { open_with_layout(path, layout(good), 2); },
               {"lox_format", "newer"});
  expect_error(ExitCode::bad_input, [&] { open_with_layout(path, layout(good), 1, "model.safetensors"); },
               {"like a shard"});
  EXPECT_EQ(open_with_layout(path, layout(good), 1, "config.json").other_files.size(), 1U);
}

}  // namespace
}  // namespace lox
