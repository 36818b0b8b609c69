// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/io/hdf5_handle.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lox {

/// An open file that nobody vouches for. Call what is below with Hdf5Lock held; failed calls throw Hdf5Error,
/// and what is wrong with the file itself Error(bad_input).
struct Hdf5Source {
  Hdf5Handle handle;
  std::string name;         ///< for texts
  std::uint64_t size = 0;   ///< bytes
  std::uint64_t links = 0;  ///< seen so far
};

/// Opens a file for reading. Call it with Hdf5Lock held; throws Hdf5Error.
Hdf5Handle open_hdf5_file(const fs::path& path);

/// The text of a string attribute, whether of fixed or variable length.
std::optional<std::string> hdf5_text_attribute(hid_t object, const char* name);

/// The numbers of an integer attribute of up to 64 elements.
std::optional<std::vector<std::int64_t>> hdf5_number_attribute(hid_t object, const char* name);

/// A dataset at `path` as an entry of a checkpoint's table (of file number 0), but for its name.
TensorInfo describe_hdf5_dataset(const Hdf5Source& source, hid_t dataset, const std::string& path);

/// Bytes [first, first + to.size()) of the dataset at `path`, little endian, wherever its elements begin.
void read_hdf5_bytes(hid_t file, const std::string& path, std::uint64_t first, std::span<std::byte> to);

}  // namespace lox
