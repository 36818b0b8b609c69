// SPDX-License-Identifier: MIT
#pragma once
// Folders, files and records for the tests of this folder.
#include "lox/base/error.hpp"
#include "lox/base/file.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/io/storage.hpp"
#include "lox/run/record.hpp"

#include <string>
#include <string_view>

#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lox::testing {

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

/// A record with a value of its own in each field.
inline TensorRecord edited(const std::string& name, std::int64_t matrix = 0) {
  TensorRecord r;
  r.name = name;
  r.matrix = matrix;
  r.action = Action::edit;
  r.method = Method::exact;
  r.where = Where::grid;
  r.k = 3;
  r.sigma = {3.25, 0.1, 1e-300};
  r.certificate = {1.0 / 3, 2.0 / 7};
  r.missed = {0.3, 1e-9};
  r.settled = false;
  r.iterations = 7;
  r.delta_norm = 4.5;
  r.edit_norm = 5.625;
  r.realised_dot = 30.1;
  r.entries = 24;
  r.changed = 23;
  r.seconds_read = 0.1;
  r.seconds_svd = 0.2;
  r.seconds_write = 0.3;
  r.bytes_read = 96;
  r.bytes_written = 48;
  r.pieces = {{0, 24, UINT64_MAX}, {24, 24, 1}};
  return r;
}

inline TensorRecord copied(const std::string& name) {
  TensorRecord r;
  r.name = name;
  r.entries = 6;
  r.bytes_read = r.bytes_written = 12;
  r.seconds_read = 0.5;
  r.pieces = {{0, 12, 99}};
  return r;
}

}  // namespace lox::testing
