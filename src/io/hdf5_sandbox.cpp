// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_sandbox.hpp"

#include "lox/base/error.hpp"
#include "lox/io/sandbox.hpp"

namespace lox {
namespace {

constexpr const char* word = "--read-hdf5-structure";

}  // namespace

Hdf5Structure inspect_sandboxed(const fs::path& path) {
  const std::string broken =
      to_line("{}: the HDF5 library breaks down over it; the file must be damaged", path);
  return Hdf5Structure::from_text(run_in_sandbox(word, path.native(), broken));
}

std::optional<int> run_if_sandboxed_reader(int argc, const char* const* argv) {
  const auto call = sandbox_call(word, argc, argv);
  if (!call) return std::nullopt;
  return answer_sandbox_call(*call, sandbox_limits(bytes_on_disk(call->argument)),
                             [&] { return read_hdf5_structure(call->argument).to_text(); });
}

}  // namespace lox
