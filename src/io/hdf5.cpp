// SPDX-License-Identifier: MIT
#include "lox/io/hdf5.hpp"

#include "lox/base/error.hpp"
#include "lox/io/hdf5_dataset.hpp"
#include "lox/io/hdf5_layout.hpp"
#include "lox/io/hdf5_sandbox.hpp"
#include "lox/io/other_files.hpp"

#include <algorithm>
#include <unistd.h>

namespace lox {

Checkpoint open_hdf5(const fs::path& path) {
  const std::string name = path.string();
  if (::access(path.c_str(), R_OK) != 0) fail(ExitCode::bad_input, "{}: may not be read", name);
  Hdf5Structure structure = inspect_sandboxed(path);
  Checkpoint model;
  model.format = Format::hdf5;
  model.path = path;
  model.files = {path};
  model.tensors = std::move(structure.tensors);
  if (!structure.own && model.tensors.empty()) fail(ExitCode::bad_input, "{}: holds no datasets", name);
  std::sort(model.tensors.begin(), model.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  if (structure.layout) apply_hdf5_layout(*structure.layout, model);
  for (TensorInfo& file : structure.files) {
    check_other_file_name(file.name, path);
    if (!file.dataset.empty()) {
      fail(ExitCode::bad_input, "{}: the file {} in it is not stored as plain bytes", name, file.name);
    }
    if (std::any_of(model.shards.begin(), model.shards.end(),
                    [&](const Shard& s) { return s.name == file.name; })) {
      fail(ExitCode::bad_input, "{}: the file {} in it is called like a shard", name, file.name);
    }
    model.other_files.push_back({std::move(file.name), file.extent});
  }
  std::sort(model.other_files.begin(), model.other_files.end(),
            [](const OtherFile& a, const OtherFile& b) { return a.name < b.name; });
  return model;
}

void read_hdf5_dataset(const fs::path& file, const TensorInfo& tensor, std::uint64_t first,
                       std::span<std::byte> to) {
  if (to.empty()) return;
  const Hdf5Lock lock;
  try {
    read_hdf5_bytes(open_hdf5_file(file).get(), tensor.dataset, first, to);
  } catch (const Hdf5Error& error) {
    fail(ExitCode::io, "{}: dataset {}: {}", file, tensor.dataset, error.what());
  }
}

std::string hdf5_library_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace lox
