// SPDX-License-Identifier: MIT
#include "lox/io/convert.hpp"

#include "lox/base/error.hpp"
#include "lox/base/stop.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <unistd.h>

namespace lox {
namespace {

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

/// Whether `inner` is `outer` or below it. Both normal.
bool is_within(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

/// Overwriting removes a whole tree: only what looks like a model may go.
bool may_be_replaced(const fs::path& output) {
  if (format_of(output) != Format::safetensors_directory) return !fs::is_directory(output);
  if (!fs::is_directory(output)) return false;
  const auto entries = fs::directory_iterator(output);
  return std::any_of(begin(entries), end(entries), [](const fs::directory_entry& entry) {
    return entry.path().extension() == ".safetensors";
  });
}

void check_parent(const fs::path& output) {
  const fs::path parent = normal_path(output).parent_path();
  if (!fs::is_directory(parent)) {
    fail(ExitCode::bad_input, "{}: its folder {} does not exist; make it first", output, parent);
  }
  if (::access(parent.c_str(), W_OK | X_OK) != 0) {
    fail(ExitCode::bad_input, "{}: no permission to write in {}: {}", output, parent, std::strerror(errno));
  }
}

void check_apart(const fs::path& output, const fs::path& input) {
  const fs::path in = normal_path(input);
  for (const fs::path& out : {normal_path(output), normal_path(partial_path(output))}) {
    if (out != in && !is_within(out, in) && !is_within(in, out)) continue;
    fail(ExitCode::bad_input, "{}: the output and the input {} {}; choose another place", output, input,
         out == in ? "are the same" : "lie inside one another");
  }
}

void remove_tree(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

/// A share of the bytes to copy: all of them stand in one row, tensors first, and each rank takes one stretch
/// of it.
class Copier {
 public:
  Copier(const Checkpoint& from, const Checkpoint& to, std::uint64_t first, std::uint64_t last)
      : from_(from),
        to_(to),
        source_(from, FileStorage::Access::read),
        target_(to, FileStorage::Access::write),
        first_(first),
        last_(last) {}

  /// Returns how many bytes there were; they are on disk.
  std::uint64_t run() {
    for (std::size_t i = 0; i < to_.tensors.size(); ++i) {
      copy(to_.tensors[i].extent, [&, i](std::uint64_t at, std::span<std::byte> piece) {
        source_.read(from_.tensors[i], at, piece);
      });
    }
    for (std::size_t i = 0; i < to_.other_files.size(); ++i) {
      copy(to_.other_files[i].extent, [&, i](std::uint64_t at, std::span<std::byte> piece) {
        source_.read(from_.other_files[i].extent, at, piece);
      });
    }
    for (const int file : touched_) target_.sync({file, 0, 0});
    return copied_;
  }

 private:
  /// The part of this extent that is in our share.
  template <class Read>
  void copy(const Extent& target, Read read) {
    const std::uint64_t begin = std::clamp(first_, passed_, passed_ + target.bytes) - passed_;
    const std::uint64_t end = std::clamp(last_, passed_, passed_ + target.bytes) - passed_;
    passed_ += target.bytes;
    for (std::uint64_t at = begin; at < end;) {
      if (stop_urgency() > 0)
        fail(ExitCode::stopped, "stopped by a signal; nothing is left behind, run it again");
      buffer_.resize(std::min(end - at, copy_piece));
      read(at, std::span(buffer_));
      target_.write(target, at, buffer_);
      touched_.insert(target.file);
      at += buffer_.size();
      copied_ += buffer_.size();
    }
  }

  const Checkpoint& from_;
  const Checkpoint& to_;
  FileStorage source_;
  FileStorage target_;
  std::uint64_t first_;
  std::uint64_t last_;
  std::uint64_t passed_ = 0;
  std::uint64_t copied_ = 0;
  std::set<int> touched_;
  std::vector<std::byte> buffer_;
};

std::uint64_t bytes_to_copy(const Checkpoint& to) {
  std::uint64_t sum = to.bytes();
  for (const OtherFile& file : to.other_files) sum += file.extent.bytes;
  return sum;
}

/// Copies this rank's share; if one rank fails, all throw its error. Collective.
std::uint64_t copy_all(const Comm& comm, const Checkpoint& from, const Checkpoint& to) {
  const std::uint64_t total = bytes_to_copy(to);
  const auto size = static_cast<std::uint64_t>(comm.size());
  const auto border = [&](int rank) {
    const auto r = static_cast<std::uint64_t>(rank);
    return total / size * r + total % size * r / size;
  };
  std::uint64_t copied = 0;
  std::string error_text;
  ExitCode code = ExitCode::done;
  try {
    copied = Copier(from, to, border(comm.rank()), border(comm.rank() + 1)).run();
  } catch (const Error& error) {
    code = error.code();
    error_text = error.what();
  } catch (const std::exception& error) {
    code = ExitCode::internal;
    error_text = error.what();
  }
  const std::vector<std::string> verdicts =
      comm.gather(fmt::format("{} {}", static_cast<int>(code), error_text));
  on_root(comm, [&] {
    for (const std::string& verdict : verdicts) {
      const int number = std::atoi(verdict.c_str());
      if (number != 0) throw Error(static_cast<ExitCode>(number), verdict.substr(verdict.find(' ') + 1));
    }
  });
  return static_cast<std::uint64_t>(comm.sum(static_cast<std::int64_t>(copied)));
}

/// The place for the output, empty of what an earlier run left.
fs::path clear_partial(const fs::path& target, bool overwrite) {
  const fs::path partial = partial_path(target);
  if (!is_there(partial)) return partial;
  if (!overwrite) {
    fail(ExitCode::bad_input, "{}: left by a run that did not finish; remove it, or say --overwrite",
         partial);
  }
  remove_tree(partial);
  return partial;
}

}  // namespace

fs::path partial_path(const fs::path& output) {
  fs::path partial = output.has_filename() ? output : output.parent_path();
  partial += ".partial";
  return partial;
}

void check_output(const fs::path& output, bool overwrite, const std::vector<fs::path>& inputs) try {
  if (output.empty()) fail(ExitCode::bad_input, "the path of the output is empty");
  for (const fs::path& input : inputs) check_apart(output, input);
  check_parent(output);
  if (!is_there(output)) return;
  if (!overwrite) {
    fail(ExitCode::bad_input, "{}: exists already; say --overwrite to replace it", output);
  }
  if (!may_be_replaced(output)) {
    fail(ExitCode::bad_input,
         "{}: exists and is not such a model; --overwrite does not remove it, do so by hand", output);
  }
} catch (const fs::filesystem_error& error) {
  fail(ExitCode::bad_input, "{}", error.what());
}

void publish(const fs::path& partial, const fs::path& output) {
  const fs::path target = output.has_filename() ? output : output.parent_path();
  fs::path aside = target;
  aside += ".replaced-by-lox";
  // A file is replaced in one step; a folder must be out of the way first.
  const bool in_the_way = is_there(target) && fs::is_directory(fs::symlink_status(partial));
  if (in_the_way) {
    remove_tree(aside);
    rename_durably(target, aside);
  }
  try {
    rename_durably(partial, target);
  } catch (...) {
    std::error_code ignored;
    if (in_the_way) fs::rename(aside, target, ignored);
    throw;
  }
  remove_tree(aside);
}

std::uint64_t convert(const Comm& comm, const fs::path& source, const fs::path& target, bool overwrite) {
  Checkpoint from;
  Checkpoint to;
  fs::path partial;  // set once it is ours to remove
  try {
    on_root(comm, [&] {
      check_output(target, overwrite, {source});
      from = open_checkpoint(source);
      const fs::path place = clear_partial(target, overwrite);
      to = create_checkpoint(from, place, format_of(target));
      partial = place;
    });
    broadcast(comm, from);
    broadcast(comm, to);
    const std::uint64_t copied = copy_all(comm, from, to);
    on_root(comm, [&] { publish(partial, target); });
    return copied;
  } catch (...) {
    if (!partial.empty()) remove_tree(partial);
    throw;
  }
}

}  // namespace lox
