// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <string>

namespace lox {

/// HDF5 makes and reads the structure; bytes then move by plain reads and writes at the extents
/// (docs/formats.md).
Checkpoint open_hdf5(const fs::path& path);

/// Reads bytes [first, first + to.size()) of a dataset that has no plain extent, little endian. The range may
/// start and end anywhere. Thread-safe: HDF5 is entered under one lock.
void read_hdf5_dataset(const fs::path& file, const TensorInfo& tensor, std::uint64_t first,
                       std::span<std::byte> to);

/// "1.10.8".
std::string hdf5_library_version();

}  // namespace lox
