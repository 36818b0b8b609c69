// SPDX-License-Identifier: MIT
#include "lox/task/convert.hpp"

#include "lox/io/identity.hpp"
#include "lox/io/output.hpp"
#include "lox/io/pages.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// Copies between two models of the same tensors and files.
class Copier {
 public:
  Copier(const Checkpoint& from, const Checkpoint& to)
      : from_(from),
        to_(to),
        source_(from, FileStorage::Access::read),
        target_(to, FileStorage::Access::write) {}

  /// Of all bytes, which stand in one row, tensors first, those from `first` to `last`, but for edges
  /// (io/pages): whole pages. They are on disk when it returns. Throws Error(stopped) on a signal.
  void copy_share(std::uint64_t first, std::uint64_t last) {
    std::uint64_t passed = 0;
    for_each([&](const Extent& place, const auto& what) {
      // Where a share ends within a page, the page goes to the share before.
      const OwnPages own = own_pages(place);
      const auto border = [&](std::uint64_t at) {
        const std::uint64_t in = std::clamp(at, passed, passed + place.bytes) - passed;
        const std::uint64_t page = File::page();
        const std::uint64_t up = (place.offset + in + page - 1) / page * page - place.offset;
        return std::clamp(up, own.first, own.last);
      };
      copy(place, what, border(first), border(last));
      passed += place.bytes;
    });
    target_.sync_written();
  }

  /// The edges of all. For one rank alone, when the others are done.
  void copy_edges() {
    for_each([&](const Extent& place, const auto& what) {
      const OwnPages own = own_pages(place);
      copy(place, what, 0, own.first);
      copy(place, what, own.last, place.bytes);
    });
    target_.sync_written();
  }

 private:
  template <class Do>
  void for_each(Do work) {
    for (std::size_t i = 0; i < to_.tensors.size(); ++i) work(to_.tensors[i].extent, from_.tensors[i]);
    for (std::size_t i = 0; i < to_.other_files.size(); ++i) {
      work(to_.other_files[i].extent, from_.other_files[i].extent);
    }
  }
  template <class What>
  void copy(const Extent& place, const What& what, std::uint64_t first, std::uint64_t last) {
    const auto read = [&](std::uint64_t at, std::span<std::byte> bytes) {
      refuse_if_stopped();
      source_.read(what, at, bytes);
    };
    refuse_if_stopped();
    if (first >= last) return;
    copy_bytes(read, target_, place, first, last);
  }
  const Checkpoint& from_;
  const Checkpoint& to_;
  FileStorage source_;
  FileStorage target_;
};

/// What stands at `target`, in the order of `from`, if it has the tensors and the files of that and no
/// others; nothing if it has not, or if something else is to be done there.
std::optional<Checkpoint> finished_table(const Checkpoint& from, const fs::path& target, bool overwrite) {
  const OutputPaths paths(target);
  check_output_place(paths.output, {from.path});
  if (overwrite || !is_there(paths.output) || is_there(paths.partial) || is_there(paths.journal)) return {};
  Checkpoint there;
  try {
    there = open_checkpoint(paths.output);
  } catch (const Error&) {  // whatever it is, it is in the way, and the output's check says so
    return {};
  }
  const bool with_files = there.format != Format::safetensors_file;
  if (there.tensors.size() != from.tensors.size()) return {};
  if (with_files && there.other_files.size() != from.other_files.size()) return {};
  std::unordered_map<std::string_view, std::size_t> by_name;
  for (std::size_t i = 0; i < there.tensors.size(); ++i) by_name.emplace(there.tensors[i].name, i);
  std::vector<TensorInfo> tensors;
  for (const TensorInfo& tensor : from.tensors) {
    const auto found = by_name.find(tensor.name);
    if (found == by_name.end()) return {};
    const TensorInfo& same = there.tensors[found->second];
    if (same.dtype != tensor.dtype || same.shape != tensor.shape) return {};
    tensors.push_back(same);
  }
  there.tensors = std::move(tensors);
  if (!with_files) return there;
  const auto same_file = [](const OtherFile& a, const OtherFile& b) {
    return a.name == b.name && a.extent.bytes == b.extent.bytes;
  };
  if (!std::ranges::equal(from.other_files, there.other_files, same_file)) return {};
  return there;
}

/// Whether all bytes of `to` are those of `from`; ranks share the reading. Collective.
bool holds_the_same(const Comm& comm, const Checkpoint& from, const Checkpoint& to) {
  constexpr std::uint64_t at_once = 8 << 20;
  bool same = true;
  together(comm, [&] {
    FileStorage ours(from, FileStorage::Access::read);
    FileStorage theirs(to, FileStorage::Access::read);
    std::vector<std::byte> one;
    std::vector<std::byte> other;
    std::uint64_t turn = 0;
    const auto compare = [&](const auto& a, const auto& b, std::uint64_t bytes) {
      for (std::uint64_t at = 0; at < bytes && same; at += at_once) {
        if (turn++ % static_cast<std::uint64_t>(comm.size()) != static_cast<std::uint64_t>(comm.rank()))
          continue;
        refuse_if_stopped();
        one.resize(std::min(at_once, bytes - at));
        other.resize(one.size());
        ours.read(a, at, std::span(one));
        theirs.read(b, at, std::span(other));
        same = one == other;
      }
    };
    for (std::size_t i = 0; i < to.tensors.size(); ++i)
      compare(from.tensors[i], to.tensors[i], to.tensors[i].extent.bytes);
    for (std::size_t i = 0; i < to.other_files.size(); ++i)
      compare(from.other_files[i].extent, to.other_files[i].extent, to.other_files[i].extent.bytes);
  });
  return comm.sum(std::int64_t{same ? 0 : 1}) == 0;
}

}  // namespace

Forecast plan_convert(const fs::path& source, const fs::path& target, bool overwrite, int ranks,
                      double bandwidth) {
  check_output(target, {overwrite, {source}});
  Checkpoint model = open_checkpoint(source);
  if (format_of(target) == Format::safetensors_file) model.other_files.clear();  // it has no place for them
  const std::uint64_t bytes = model.bytes_with_files();
  return forecast_copy(bytes, bytes, ranks, bandwidth);
}

std::optional<std::uint64_t> convert(const Comm& comm, const fs::path& source, const fs::path& target,
                                     bool overwrite, const Log& log) {
  Checkpoint from;
  Checkpoint to;
  std::optional<Output> output;
  bool done = false;
  std::optional<Checkpoint> there;
  on_root(comm, [&] {
    from = open_checkpoint(source);
    there = finished_table(from, target, overwrite);
  });
  if (comm.sum(std::int64_t{there ? 1 : 0}) > 0) {
    if (there) to = *there;
    broadcast(comm, from);
    broadcast(comm, to);
    if (holds_the_same(comm, from, to)) return std::nullopt;
  }
  on_root(comm, [&] {
    output = Output::create(target, {overwrite, {source}}, from,
                            {{"task", "convert"}, {"source", identity_of(from)}});
    to = output->table();
    done = output->state() != Output::State::fresh;
    warn_of_left_files(from, target, log);
    if (done) output->finish();
  });
  if (comm.sum(std::int64_t{done ? 1 : 0}) > 0) return std::nullopt;
  broadcast(comm, from);
  broadcast(comm, to);
  const std::uint64_t total = to.bytes_with_files();
  const auto border = [&](int rank) {
    const auto r = static_cast<std::uint64_t>(rank);
    const auto size = static_cast<std::uint64_t>(comm.size());
    return total / size * r + total % size * r / size;
  };
  std::optional<OutputLock> lock = Output::join(comm, target, output ? &*output : nullptr);
  together(comm, [&] {  // what it has opened is closed at its end: rank 0 may have to remove it
    const std::optional<OutputLock> held = std::exchange(lock, std::nullopt);
    Copier(from, to).copy_share(border(comm.rank()), border(comm.rank() + 1));
  });
  on_root(comm, [&] {
    Copier(from, to).copy_edges();
    output->finish();
  });
  return total;
}

}  // namespace lox
