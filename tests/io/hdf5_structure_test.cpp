// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_structure.hpp"

#include <array>

#include "io/foreign_hdf5.hpp"
#include "io/models.hpp"

namespace lox {
namespace {

using testing::bytes_of;
using testing::copy_model;
using testing::expect_error;
using testing::find_tensor;
using testing::ForeignFile;
using testing::put;
using testing::put_odd_model;
using testing::Scratch;
using testing::Shape;

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::vector<float> numbers(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) - 7.5F;
  return values;
}

TEST(Hdf5Structure, NamesAreThePathsInOrder) {
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
  copy_model(model, scratch / "out", Format::safetensors_directory);
  EXPECT_EQ(bytes_of(open_checkpoint(scratch / "out"), "a.z"), raw(std::vector<double>{-7.5}));
}

TEST(Hdf5Structure, ChunkedCompressedAndBigEndianComeThroughTheLibrary) {
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

TEST(Hdf5Structure, Bfloat16HasManyForms) {
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

TEST(Hdf5Structure, TypesWithoutACounterpartAreRefused) {
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

TEST(Hdf5Structure, BytesElsewhereOrNowhereAreRefused) {
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

TEST(Hdf5Structure, DatasetsUnderTwoNamesAreTwoTensors) {
  const Scratch scratch;
  ForeignFile file(scratch / "x.h5");
  const auto values = numbers(4);
  file.add("embed", H5T_IEEE_F32LE, {4}, H5T_NATIVE_FLOAT, values.data());
  H5Lcreate_hard(file.id(), "embed", file.id(), "lm_head", H5P_DEFAULT, H5P_DEFAULT);
  const Checkpoint model = file.open();
  EXPECT_EQ(bytes_of(model, "lm_head"), raw(values));
}

TEST(Hdf5Structure, NotHdf5OrCutShort) {
  const Scratch scratch;
  put(scratch / "x.h5", "no");
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "x.h5"); },
               {"x.h5", "HDF5", "signature"});
  put_odd_model(scratch / "in");
  copy_model(open_checkpoint(scratch / "in"), scratch / "y.h5", Format::hdf5);
  fs::resize_file(scratch / "y.h5", fs::file_size(scratch / "y.h5") - 1);
  expect_error(ExitCode::bad_input, [&] { open_checkpoint(scratch / "y.h5"); }, {"y.h5", "truncated"});
}

TEST(Hdf5Structure, ThereAndBackAsText) {
  Hdf5Structure structure;
  EXPECT_EQ(Hdf5Structure::from_text(structure.to_text()).layout, std::nullopt);
  structure.own = true;
  structure.layout = "";
  EXPECT_EQ(Hdf5Structure::from_text(structure.to_text()).layout, "");
  structure.layout = std::string("a\0b", 3);
  structure.tensors.push_back({"t", DType::BF16, {2, 3}, {0, 7, 12}, "/t\xff"});
  structure.files.push_back({"f", DType::U8, {1}, {0, 9, 1}, ""});
  const Hdf5Structure back = Hdf5Structure::from_text(structure.to_text());
  EXPECT_TRUE(back.own);
  EXPECT_EQ(back.layout, structure.layout);
  EXPECT_EQ(back.to_text(), structure.to_text());
  EXPECT_EQ(back.tensors.at(0).dataset, "/t\xff");
  EXPECT_EQ(back.files.at(0).extent.offset, 9U);
}

}  // namespace
}  // namespace lox
