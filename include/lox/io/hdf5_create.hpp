// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

namespace lox {

/// See create_checkpoint. The library makes the structure and closes the file; a kill at any moment after
/// that leaves a file that opens (docs/formats.md).
Checkpoint create_hdf5(const Checkpoint& like, const fs::path& path, Space space = Space::reserved);

}  // namespace lox
