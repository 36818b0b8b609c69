// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/hdf5_structure.hpp"

#include <optional>

namespace lox {

/// read_hdf5_structure in a process of its own: the library has no defence against damaged files. Throws
/// Error(bad_input), also where the library breaks down.
Hdf5Structure inspect_sandboxed(const fs::path& path);

/// The exit code, if this process was started by inspect_sandboxed to read the structure. Every program that
/// opens HDF5 files calls it at the very beginning of main.
std::optional<int> run_if_sandboxed_reader(int argc, const char* const* argv);

}  // namespace lox
