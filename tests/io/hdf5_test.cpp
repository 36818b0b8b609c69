// SPDX-License-Identifier: MIT
#include "lox/io/hdf5.hpp"

#include "lox/io/hdf5_layout.hpp"
#include "lox/io/model_directory.hpp"
#include "lox/io/storage.hpp"

#include <array>
#include <csignal>
#include <hdf5.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::copy_extent;
using testing::copy_tensor;
using testing::expect_error;
using testing::find_tensor;
using testing::get;
using testing::put;
using testing::put_odd_model;
using testing::Scratch;
using Shape = std::vector<hsize_t>;

std::string bytes_of(const Checkpoint& model, const TensorInfo& tensor) {
  FileStorage storage(model, FileStorage::Access::read);
  std::string bytes(tensor.extent.bytes, '\0');
  storage.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

std::string bytes_of(const Checkpoint& model, const std::string& name) {
  const TensorInfo* const tensor = find_tensor(model, name);
  if (tensor == nullptr) return "no such tensor";
  return bytes_of(model, *tensor);
}

/// Copies a model as `convert` does.
Checkpoint copy(const Checkpoint& from, const fs::path& path, Format format) {
  Checkpoint to = create_checkpoint(from, path, format);
  FileStorage source(from, FileStorage::Access::read);
  FileStorage target(to, FileStorage::Access::write);
  for (std::size_t i = 0; i < to.tensors.size(); ++i)
    copy_tensor(source, from.tensors[i], target, to.tensors[i]);
  for (std::size_t i = 0; i < to.carried.size(); ++i) {
    copy_extent(source, from.carried[i].extent, target, to.carried[i].extent);
  }
  return to;
}

// ---- the layout that lox writes ----

TEST(Hdf5, ThereAndBackIsTheSameDirectory) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const Checkpoint in = open_checkpoint(scratch / "in");
  copy(in, scratch / "x.h5", Format::hdf5);
  const Checkpoint there = open_checkpoint(scratch / "x.h5");
  ASSERT_EQ(there.tensors.size(), in.tensors.size());
  for (std::size_t i = 0; i < in.tensors.size(); ++i) {
    EXPECT_EQ(there.tensors[i].name, in.tensors[i].name);
    EXPECT_EQ(there.tensors[i].dtype, in.tensors[i].dtype);
    EXPECT_EQ(there.tensors[i].shape, in.tensors[i].shape);
    EXPECT_TRUE(there.tensors[i].dataset.empty());
    EXPECT_EQ(bytes_of(there, there.tensors[i]), bytes_of(in, in.tensors[i]));
  }
  copy(there, scratch / "out", Format::safetensors_directory);
  EXPECT_EQ(testing::tree(scratch / "out"), testing::tree(scratch / "in"));
  copy(there, scratch / "y.h5", Format::hdf5);
  EXPECT_EQ(get(scratch / "y.h5"), get(scratch / "x.h5"));
}

TEST(Hdf5, ThereAndBackIsTheSameFile) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const fs::path file = scratch / "in/model-00001-of-00002.safetensors";
  copy(open_checkpoint(file), scratch / "x.h5", Format::hdf5);
  copy(open_checkpoint(scratch / "x.h5"), scratch / "back.safetensors", Format::safetensors_file);
  EXPECT_EQ(get(scratch / "back.safetensors"), get(file));
  copy(open_checkpoint(scratch / "x.h5"), scratch / "back", Format::safetensors_directory);
  EXPECT_EQ(get(scratch / "back/model.safetensors"), get(file));
}

TEST(Hdf5, ShardsMergeIntoOneFile) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const Checkpoint in = open_checkpoint(scratch / "in");
  EXPECT_TRUE(copy(in, scratch / "x.safetensors", Format::safetensors_file).carried.empty());
  const Checkpoint merged = open_checkpoint(scratch / "x.safetensors");
  EXPECT_EQ(merged.tensors.size(), in.tensors.size());
  for (const TensorInfo& tensor : in.tensors) EXPECT_EQ(bytes_of(merged, tensor.name), bytes_of(in, tensor));
}

TEST(Hdf5, LargeTensorsAreAligned) {
  const Scratch scratch;
  Checkpoint like;
  for (int i = 0; i < 4; ++i) {
    TensorInfo tensor;
    tensor.name = std::to_string(i);
    tensor.dtype = DType::BF16;
    tensor.shape = {1024, i % 2 == 0 ? 3 : 700};
    like.tensors.push_back(tensor);
  }
  const Checkpoint made = create_checkpoint(like, scratch / "x.h5", Format::hdf5);
  for (const int i : {1, 3})
    EXPECT_EQ(made.tensors[static_cast<std::size_t>(i)].extent.offset % (1 << 20), 0U);
  const Checkpoint back = open_checkpoint(scratch / "x.h5");
  EXPECT_TRUE(back.shards.empty());  // they were made up
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(find_tensor(back, std::to_string(i))->extent.offset,
              made.tensors[static_cast<std::size_t>(i)].extent.offset);
  }
}

TEST(Hdf5, LinkNamesDiffer) {
  EXPECT_EQ(
      hdf5_link_names({"a.b", "a/b", "a%2Fb", "", ".", "..", "%", "x/%", "%2E"}),
      (std::vector<std::string>{"a.b", "a%2Fb%", "a%2Fb", "%%", "%2E%", "%2E%2E", "%", "x%2F%25", "%2E"}));
}

TEST(Hdf5, MoreDimensionsThanHdf5HasAreRefused) {
  const Scratch scratch;
  Checkpoint like;
  like.tensors.resize(1);
  like.tensors[0].name = "t";
  like.tensors[0].shape.assign(33, 1);
  expect_error(ExitCode::bad_input, [&] { create_checkpoint(like, scratch / "x.h5", Format::hdf5); },
               {"tensor t", "33"});
  EXPECT_TRUE(fs::is_empty(scratch.path()));
}

TEST(Hdf5, OpensAfterAKillWhileItIsWritten) {
  const Scratch scratch;
  put_odd_model(scratch / "in");
  const Checkpoint in = open_checkpoint(scratch / "in");
  for (std::size_t written = 0; written <= in.tensors.size(); written += 4) {
    const fs::path path = scratch / fmt::format("{}.h5", written);
    const pid_t child = ::fork();
    if (child == 0) {
      const Checkpoint made = create_checkpoint(in, path, Format::hdf5);
      FileStorage source(in, FileStorage::Access::read);
      FileStorage target(made, FileStorage::Access::write);
      for (std::size_t i = 0; i < written; ++i) copy_tensor(source, in.tensors[i], target, made.tensors[i]);
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const Checkpoint back = open_checkpoint(path);
    ASSERT_EQ(back.tensors.size(), in.tensors.size());
    for (std::size_t i = 0; i < written; ++i)
      EXPECT_EQ(bytes_of(back, back.tensors[i]), bytes_of(in, in.tensors[i]));
  }
}

// ---- files of others ----

/// A file made by the library itself, for a test to fill.
class ForeignFile {
 public:
  explicit ForeignFile(const fs::path& path)
      : path_(path),
        id_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)),
        links_(H5Pcreate(H5P_LINK_CREATE)),
        properties_(H5Pcreate(H5P_DATASET_CREATE)) {
    H5Pset_create_intermediate_group(links_, 1);
  }
  ~ForeignFile() { close(); }

  hid_t id() const { return id_; }
  hid_t properties() const { return properties_; }
  /// A dataset of these elements, stored as `type`.
  void add(const char* name, hid_t type, const Shape& shape, hid_t memory, const void* data,
           const char* dtype = nullptr) {
    const hid_t space = shape.empty()
                            ? H5Screate(H5S_SCALAR)
                            : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t set = H5Dcreate2(id_, name, type, space, links_, properties_, H5P_DEFAULT);
    ASSERT_GE(set, 0) << name;
    if (data != nullptr) H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (dtype != nullptr) add_text(set, dtype);
    H5Dclose(set);
    H5Sclose(space);
  }
  Checkpoint open() {
    close();
    return open_checkpoint(path_);
  }

 private:
  static void add_text(hid_t set, const char* text) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, std::string_view(text).size() + 3);  // with padding
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(set, "dtype", type, space, H5P_DEFAULT, H5P_DEFAULT);
    std::string padded(text);
    padded.resize(padded.size() + 3, '\0');
    H5Awrite(attribute, type, padded.data());
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
  }
  void close() {
    if (id_ < 0) return;
    H5Pclose(properties_);
    H5Pclose(links_);
    H5Fclose(id_);
    id_ = -1;
  }
  fs::path path_;
  hid_t id_;
  hid_t links_;
  hid_t properties_;
};

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::vector<float> numbers(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) - 7.5F;
  return values;
}

TEST(ForeignHdf5, NamesAreThePathsInOrder) {
  const Scratch scratch;
  ForeignFile file(scratch / "x.h5");
  const auto values = numbers(6);
  file.add("model/layers/1/w", H5T_IEEE_F32LE, {2, 3}, H5T_NATIVE_FLOAT, values.data());
  file.add("b", H5T_STD_I64LE, {6}, H5T_NATIVE_FLOAT, values.data());
  file.add("a/z", H5T_IEEE_F64LE, {}, H5T_NATIVE_FLOAT, values.data());
  file.add("none", H5T_IEEE_F64LE, {0, 3}, H5T_NATIVE_FLOAT, nullptr);
  const Checkpoint model = file.open();
  ASSERT_EQ(model.tensors.size(), 4U);
  EXPECT_EQ(model.tensors[0].name, "a.z");
  EXPECT_TRUE(model.tensors[0].shape.empty());
  EXPECT_EQ(model.tensors[1].dtype, DType::I64);
  EXPECT_EQ(model.tensors[2].name, "model.layers.1.w");
  EXPECT_EQ(bytes_of(model, "model.layers.1.w"), raw(values));
  EXPECT_TRUE(model.tensors[2].dataset.empty());
  EXPECT_EQ(model.tensors[3].shape, (std::vector<std::int64_t>{0, 3}));
  EXPECT_TRUE(model.shards.empty());
  copy(model, scratch / "out", Format::safetensors_directory);
  EXPECT_EQ(bytes_of(open_checkpoint(scratch / "out"), "a.z"), raw(std::vector<double>{-7.5}));
}

TEST(ForeignHdf5, ChunkedCompressedAndBigEndianComeThroughTheLibrary) {
  const Scratch scratch;
  ForeignFile file(scratch / "x.h5");
  const auto values = numbers(5 * 7 * 9);
  file.add("big", H5T_IEEE_F32BE, {5, 7, 9}, H5T_NATIVE_FLOAT, values.data());
  const Shape chunk{2, 3, 4};
  H5Pset_chunk(file.properties(), 3, chunk.data());
  file.add("chunked", H5T_IEEE_F32LE, {5, 7, 9}, H5T_NATIVE_FLOAT, values.data());
  H5Pset_shuffle(file.properties());
  H5Pset_deflate(file.properties(), 6);
  file.add("packed", H5T_IEEE_F32LE, {5, 7, 9}, H5T_NATIVE_FLOAT, values.data());
  const Checkpoint model = file.open();
  const std::string all = raw(values);
  for (const TensorInfo& tensor : model.tensors) {
    SCOPED_TRACE(tensor.name);
    EXPECT_FALSE(tensor.dataset.empty());
    EXPECT_EQ(bytes_of(model, tensor), all);
    FileStorage storage(model, FileStorage::Access::read);
    for (std::size_t first = 0; first < all.size(); first += 97) {
      for (const std::size_t count : {std::size_t{1}, std::size_t{36}, std::size_t{256}, std::size_t{509}}) {
        std::string part(std::min(count, all.size() - first), '\0');
        storage.read(tensor, first, std::as_writable_bytes(std::span(part)));
        ASSERT_EQ(part, all.substr(first, count)) << first << " " << count;
      }
    }
  }
}

TEST(ForeignHdf5, Bfloat16HasManyForms) {
  const Scratch scratch;
  ForeignFile file(scratch / "x.h5");
  const std::vector<std::uint16_t> bits{0x3F80, 0x7FC1, 0x8001, 0xFF80};
  const hid_t opaque = H5Tcreate(H5T_OPAQUE, 2);
  file.add("opaque", opaque, {4}, opaque, bits.data(), "BF16");
  file.add("numpy", opaque, {4}, opaque, bits.data(), "bfloat16");
  file.add("unsigned", H5T_STD_U16LE, {4}, H5T_NATIVE_UINT16, bits.data(), "BF16");
  file.add("turned", H5T_STD_U16BE, {4}, H5T_NATIVE_UINT16, bits.data(), "BF16");
  file.add("plain", H5T_STD_U16LE, {4}, H5T_NATIVE_UINT16, bits.data());
  file.add("fp8", H5T_STD_U8LE, {8}, H5T_NATIVE_UINT8, bits.data(), "F8_E4M3");
  H5Tclose(opaque);
  const Checkpoint model = file.open();
  for (const char* const name : {"opaque", "numpy", "unsigned", "turned"}) {
    EXPECT_EQ(find_tensor(model, name)->dtype, DType::BF16) << name;
    EXPECT_EQ(bytes_of(model, name), raw(bits)) << name;
  }
  EXPECT_EQ(find_tensor(model, "plain")->dtype, DType::U16);
  EXPECT_EQ(find_tensor(model, "fp8")->dtype, DType::F8_E4M3);
}

TEST(ForeignHdf5, TypesWithoutACounterpartAreRefused) {
  const Scratch scratch;
  const auto refuse = [&](hid_t type, const char* dtype, std::initializer_list<std::string_view> parts) {
    ForeignFile file(scratch / "x.h5");
    const std::array<char, 64> data{};
    file.add("t", type, {2}, type, data.data(), dtype);
    expect_error(
        ExitCode::bad_input, [&] { file.open(); }, parts);
    H5Tclose(type);
  };
  refuse(H5Tcreate(H5T_OPAQUE, 2), nullptr, {"/t", "BF16"});
  refuse(H5Tcopy(H5T_NATIVE_LDOUBLE), nullptr, {"/t", "type"});
  refuse(H5Tcopy(H5T_STD_REF_OBJ), nullptr, {"/t", "type"});
  refuse(H5Tcopy(H5T_IEEE_F32LE), "BF16", {"/t", "BF16"});
}

TEST(ForeignHdf5, BytesElsewhereOrNowhereAreRefused) {
  const Scratch scratch;
  const auto values = numbers(4);
  const auto refuse = [&](auto fill, std::initializer_list<std::string_view> parts) {
    ForeignFile file(scratch / "x.h5");
    fill(file);
    expect_error(
        ExitCode::bad_input, [&] { file.open(); }, parts);
  };
  refuse(
      [&](ForeignFile& file) {
        H5Pset_external(file.properties(), "/etc/passwd", 0, 16);
        file.add("t", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, nullptr);
      },
      {"/t", "other files"});
  refuse([&](ForeignFile& file) { file.add("t", H5T_IEEE_F32LE, {1ULL << 40}, H5T_NATIVE_FLOAT, nullptr); },
         {"/t", "never written"});
  refuse(
      [&](ForeignFile& file) {
        const Shape chunk{1ULL << 25};
        H5Pset_chunk(file.properties(), 1, chunk.data());
        file.add("t", H5T_IEEE_F32LE, {1ULL << 40}, H5T_NATIVE_FLOAT, nullptr);
      },
      {"/t", "chunks"});
  refuse(
      [&](ForeignFile& file) {
        file.add("t", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, values.data());
        H5Lcreate_soft("/t", file.id(), "s", H5P_DEFAULT, H5P_DEFAULT);
      },
      {"/s", "link"});
  refuse(
      [&](ForeignFile& file) {
        H5Lcreate_external("/etc/passwd", "/", file.id(), "e", H5P_DEFAULT, H5P_DEFAULT);
      },
      {"/e", "link"});
  refuse(
      [&](ForeignFile& file) {
        file.add("a/t", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, values.data());
        H5Lcreate_hard(file.id(), "a", file.id(), "a/a", H5P_DEFAULT, H5P_DEFAULT);
      },
      {"nested"});
  refuse(
      [&](ForeignFile& file) {  // doubles with each level
        file.add("x", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, values.data());
        std::string path = "g";
        for (int i = 0; i < 30; ++i, path += "/l") {
          H5Gclose(H5Gcreate2(file.id(), path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
          if (i > 0)
            H5Lcreate_hard(file.id(), path.c_str(), file.id(), (path + "r").c_str(), H5P_DEFAULT,
                           H5P_DEFAULT);
        }
      },
      {"cannot be read"});
  refuse(
      [&](ForeignFile& file) {
        file.add("a/b", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, values.data());
        file.add("a.b", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, values.data());
      },
      {"two datasets", "a.b"});
  refuse([](ForeignFile&) {}, {"no datasets"});
}

TEST(ForeignHdf5, DatasetsUnderTwoNamesAreTwoTensors) {
  const Scratch scratch;
  ForeignFile file(scratch / "x.h5");
  const auto values = numbers(4);
  file.add("embed", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, values.data());
  H5Lcreate_hard(file.id(), "embed", file.id(), "lm_head", H5P_DEFAULT, H5P_DEFAULT);
  const Checkpoint model = file.open();
  EXPECT_EQ(bytes_of(model, "lm_head"), raw(values));
}

TEST(ForeignHdf5, NotHdf5OrCutShort) {
  const Scratch scratch;
  put(scratch / "x.h5", "no");
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "x.h5"); },
               {"x.h5", "HDF5", "signature"});
  put_odd_model(scratch / "in");
  copy(open_checkpoint(scratch / "in"), scratch / "y.h5", Format::hdf5);
  fs::resize_file(scratch / "y.h5", fs::file_size(scratch / "y.h5") - 1);
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "y.h5"); }, {"y.h5", "truncated"});
}

// ---- files that claim to be of lox ----

/// A file in lox's layout whose /layout has this text.
Checkpoint open_with_layout(const fs::path& path, const std::string& layout, int version = 1,
                            const char* carried = nullptr) {
  ForeignFile file(path);
  const std::uint8_t byte = 7;
  file.add("tensors/t", H5T_STD_U8LE, {1}, H5T_NATIVE_UINT8, &byte, "U8");
  if (!layout.empty()) file.add("layout", H5T_STD_U8LE, {layout.size()}, H5T_NATIVE_UINT8, layout.data());
  if (carried != nullptr)
    file.add((std::string("files/") + carried).c_str(), H5T_STD_U8LE, {1}, H5T_NATIVE_UINT8, &byte);
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute = H5Acreate2(file.id(), "lox_format", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, H5T_NATIVE_INT, &version);
  H5Aclose(attribute);
  H5Sclose(space);
  return file.open();
}

TEST(Hdf5, LayoutMustFitTheDatasets) {
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
  refuse(R"({"shards":[]})", {"does not tell of tensor t"});
  refuse(layout(R"({\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}})"), {"tells of tensor u"});
  refuse(layout(R"({\"t\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}})"), {"tells of tensor t"});
  refuse(layout(R"({\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}})"), {"hole"});
  for (const char* const name : {"../x", "a/b", "", "/x"}) refuse(layout(good, name), {"x.h5"});
  expect_error(ExitCode::bad_input, [&] { open_with_layout(path, layout(good), 2); },
               {"lox_format", "newer"});
  expect_error(ExitCode::bad_input, [&] { open_with_layout(path, layout(good), 1, "model.safetensors"); },
               {"like a shard"});
  EXPECT_EQ(open_with_layout(path, layout(good), 1, "config.json").carried.size(), 1U);
}

}  // namespace
}  // namespace lox
