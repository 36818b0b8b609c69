// SPDX-License-Identifier: MIT
#pragma once
// Small models on disk for the tests of this folder.
#include "lox/base/error.hpp"
#include "lox/base/file.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/io/storage.hpp"

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lox::testing {

/// A safetensors file: the header's length, the header, the data.
inline std::string framed(std::string_view header, std::string_view data = "") {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((std::uint64_t{header.size()} >> (8 * i)) & 0xFF);
  return bytes.append(header).append(data);
}

/// Every regular file under a folder, by relative name.
inline std::map<std::string, std::string> tree(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[entry.path().lexically_relative(folder).string()] = get(entry.path());
  }
  return files;
}

/// Recognisable bytes.
inline std::string pattern(std::size_t size, int seed) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<char>((i * 31 + static_cast<std::size_t>(seed) * 17) % 251);
  return bytes;
}

/// A sharded model with all that is odd about real ones: key order, padding, metadata, names, dtypes, other
/// files.
inline void put_odd_model(const fs::path& folder) {
  const std::string first =
      R"( {"z.weight":{"dtype":"BF16","shape":[3,5],"data_offsets":[0,30]},)"
      R"("__metadata__":{"format":"pt","ключ":"\u2603 \"x\""},)"
      R"("a/b":{"dtype":"F32","shape":[2,2],"data_offsets":[30,46]},)"
      R"("a%2Fb":{"shape":[3],"data_offsets":[46,52],"dtype":"F16"},)"
      R"("scalar":{"dtype":"F64","shape":[],"data_offsets":[52,60]},"":{"dtype":"I8","shape":[1],"data_offsets":[60,61]}})"
      "\n \t      ";
  const std::string second =
      R"({"слой.0.вес":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]},".":{"dtype":"U16","shape":[2],"data_offsets":[4,8]},)"
      R"("..":{"dtype":"C64","shape":[2,1],"data_offsets":[8,24]},"empty":{"dtype":"F32","shape":[0,7],"data_offsets":[24,24]},)"
      R"("f4":{"dtype":"F4","shape":[3,4],"data_offsets":[24,30]},"f6":{"dtype":"F6_E3M2","shape":[8],"data_offsets":[30,36]},)"
      R"("f8":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[36,42]},"i":{"dtype":"I64","shape":[1,1,1],"data_offsets":[42,50]}})";
  put(folder / "model-00001-of-00002.safetensors", framed(first, pattern(61, 1)));
  put(folder / "model-00002-of-00002.safetensors", framed(second, pattern(50, 2)));
  put(folder / "model.safetensors.index.json",
      R"({"metadata": {"total_size": 111, "more": [1, null]}, "weight_map": {
      "z.weight": "model-00001-of-00002.safetensors", "a/b": "model-00001-of-00002.safetensors",
      "a%2Fb": "model-00001-of-00002.safetensors", "scalar": "model-00001-of-00002.safetensors",
      "": "model-00001-of-00002.safetensors", "слой.0.вес": "model-00002-of-00002.safetensors",
      ".": "model-00002-of-00002.safetensors", "..": "model-00002-of-00002.safetensors",
      "empty": "model-00002-of-00002.safetensors", "f4": "model-00002-of-00002.safetensors",
      "f6": "model-00002-of-00002.safetensors", "f8": "model-00002-of-00002.safetensors",
      "i": "model-00002-of-00002.safetensors"}})");
  put(folder / "config.json", "{}\n");
  put(folder / "empty.txt", "");
  put(folder / "кофе ☕.txt", "x");
  put(folder / "code" / "deep" / "model.py", "pass");
  put(folder / "pytorch_model.bin", pattern(1000, 3));
}

/// The tensor of this name; nullptr if there is none.
inline const TensorInfo* find_tensor(const Checkpoint& model, std::string_view name) {
  for (const TensorInfo& tensor : model.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

/// The bytes of a tensor, wherever they come from, to the place of the same size in another checkpoint.
inline void copy_tensor(Storage& from, const TensorInfo& source, Storage& to, const TensorInfo& target) {
  std::vector<std::byte> bytes(source.extent.bytes);
  from.read(source, 0, bytes);
  to.write(target.extent, 0, bytes);
}

/// The same for an extent.
inline void copy_extent(Storage& from, const Extent& source, Storage& to, const Extent& target) {
  copy_bytes([&](std::uint64_t first, std::span<std::byte> bytes) { from.read(source, first, bytes); }, to,
             target, 0, target.bytes);
}

/// A model of two small matrices, a batch of two, and a vector, as one safetensors file; each byte of it is
/// `fill`.
inline Checkpoint put_model(const fs::path& path, char fill = 0) {
  Checkpoint like;
  like.tensors = {{"a", DType::BF16, {4, 6}, {}, ""},
                  {"b", DType::F32, {3, 5}, {}, ""},
                  {"experts", DType::BF16, {2, 3, 4}, {}, ""},
                  {"norm", DType::BF16, {6}, {}, ""}};
  for (TensorInfo& tensor : like.tensors) {
    tensor.extent.bytes = static_cast<std::uint64_t>(tensor.elements()) *
                          static_cast<std::uint64_t>(dtype_bits(tensor.dtype)) / 8;
  }
  const Checkpoint made = create_checkpoint(like, path, Format::safetensors_file);
  FileStorage storage(made, FileStorage::Access::write);
  for (const TensorInfo& tensor : made.tensors) {
    const std::vector<std::byte> bytes(tensor.extent.bytes, static_cast<std::byte>(fill));
    storage.write(tensor.extent, 0, bytes);
  }
  return open_checkpoint(path);
}

/// The bytes of a tensor.
inline std::string bytes_of(const Checkpoint& model, const TensorInfo& tensor) {
  FileStorage storage(model, FileStorage::Access::read);
  std::string bytes(tensor.extent.bytes, '\0');
  storage.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

inline std::string bytes_of(const Checkpoint& model, const std::string& name) {
  const TensorInfo* const tensor = find_tensor(model, name);
  if (tensor == nullptr) return "no such tensor";
  return bytes_of(model, *tensor);
}

/// Copies a model as `convert` does.
inline Checkpoint copy_model(const Checkpoint& from, const fs::path& path, Format format) {
  Checkpoint to = create_checkpoint(from, path, format);
  FileStorage source(from, FileStorage::Access::read);
  FileStorage target(to, FileStorage::Access::write);
  for (std::size_t i = 0; i < to.tensors.size(); ++i)
    copy_tensor(source, from.tensors[i], target, to.tensors[i]);
  for (std::size_t i = 0; i < to.other_files.size(); ++i) {
    copy_extent(source, from.other_files[i].extent, target, to.other_files[i].extent);
  }
  return to;
}

}  // namespace lox::testing
