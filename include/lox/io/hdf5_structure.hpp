// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <optional>
#include <string>
#include <vector>

namespace lox {

/// What the HDF5 library says of a file; judged afterwards, without the library.
struct Hdf5Structure {
  bool own = false;                   ///< in the layout that lox writes
  std::vector<TensorInfo> tensors;    ///< any order
  std::vector<TensorInfo> files;      ///< of /files
  std::optional<std::string> layout;  ///< the text of /layout

  /// To hand it from the process that uses the library to the one that needs it.
  std::string to_text() const;
  static Hdf5Structure from_text(const std::string& text);
};

/// By the library, in this process: a damaged file may crash it or keep it busy for ever. Throws
/// Error(bad_input).
Hdf5Structure read_hdf5_structure(const fs::path& path);

}  // namespace lox
