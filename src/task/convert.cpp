// SPDX-License-Identifier: MIT
#include "lox/task/convert.hpp"

#include "lox/base/error.hpp"
#include "lox/base/stop.hpp"
#include "lox/io/output.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>
#include <optional>
#include <set>

namespace lox {
namespace {

std::uint64_t bytes_to_copy(const Checkpoint& to) {
  std::uint64_t sum = to.bytes();
  for (const OtherFile& file : to.other_files) sum += file.extent.bytes;
  return sum;
}

/// Copies a share of all bytes, which stand in one row, tensors first: those from `first` to `last`. They are
/// on disk when it returns. Throws Error(stopped) on a signal.
void copy_share(const Checkpoint& from, const Checkpoint& to, std::uint64_t first, std::uint64_t last) {
  FileStorage source(from, FileStorage::Access::read);
  FileStorage target(to, FileStorage::Access::write);
  std::set<int> touched;
  std::uint64_t passed = 0;
  const auto copy = [&](const Extent& place, const auto& what) {
    const std::uint64_t begin = std::clamp(first, passed, passed + place.bytes) - passed;
    const std::uint64_t end = std::clamp(last, passed, passed + place.bytes) - passed;
    passed += place.bytes;
    if (begin == end) return;
    const auto read = [&](std::uint64_t at, std::span<std::byte> bytes) {
      if (stop_urgency() > 0) {
        fail(ExitCode::stopped, "stopped by a signal; nothing is left behind, run it again");
      }
      source.read(what, at, bytes);
    };
    copy_bytes(read, target, place, begin, end);
    touched.insert(place.file);
  };
  for (std::size_t i = 0; i < to.tensors.size(); ++i) copy(to.tensors[i].extent, from.tensors[i]);
  for (std::size_t i = 0; i < to.other_files.size(); ++i)
    copy(to.other_files[i].extent, from.other_files[i].extent);
  for (const int file : touched) target.sync({file, 0, 0});
}

}  // namespace

Forecast plan_convert(const fs::path& source, const fs::path& target, bool overwrite, int ranks) {
  check_output(target, {overwrite, {source}});
  Checkpoint model = open_checkpoint(source);
  if (format_of(target) == Format::safetensors_file) model.other_files.clear();  // it has no place for them
  const std::uint64_t bytes = bytes_to_copy(model);
  return forecast_copy(bytes, bytes, ranks);
}

std::uint64_t convert(const Comm& comm, const fs::path& source, const fs::path& target, bool overwrite) {
  Checkpoint from;
  Checkpoint to;
  std::optional<Output> output;
  on_root(comm, [&] {
    const OutputRules rules{overwrite, {source}};
    check_output(target, rules);
    from = open_checkpoint(source);
    output = Output::create(target, rules, from);
    to = output->table();
  });
  broadcast(comm, from);
  broadcast(comm, to);
  const std::uint64_t total = bytes_to_copy(to);
  const auto border = [&](int rank) {
    const auto r = static_cast<std::uint64_t>(rank);
    const auto size = static_cast<std::uint64_t>(comm.size());
    return total / size * r + total % size * r / size;
  };
  together(comm, [&] { copy_share(from, to, border(comm.rank()), border(comm.rank() + 1)); });
  on_root(comm, [&] { output->publish(); });
  return total;
}

}  // namespace lox
