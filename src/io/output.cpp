// SPDX-License-Identifier: MIT
#include "lox/io/output.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/io/identity.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unistd.h>
#include <unordered_map>
#include <utility>

namespace lox {
namespace {

using nlohmann::json;

constexpr int journal_version = 2;
constexpr std::uint64_t largest_sign = std::uint64_t{1} << 30;

fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}
fs::path with_ending(fs::path path, const char* ending) {
  path += ending;
  return path;
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(ExitCode::io, "{}: cannot remove: {}", path, error.message());
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

void check_folder(const fs::path& output) {
  const fs::path folder = normal_path(output).parent_path();
  if (!fs::is_directory(folder)) {
    fail(ExitCode::bad_input, "{}: its folder {} does not exist; make it first", output, folder);
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail(ExitCode::bad_input, "{}: no permission to write in {}: {}", output, folder, std::strerror(errno));
  }
}

void check_apart(const OutputPaths& paths, const fs::path& input) {
  const fs::path in = normal_path(input);
  for (const fs::path& out : {normal_path(paths.output), normal_path(paths.partial)}) {
    if (out != in && !is_within(out, in) && !is_within(in, out)) continue;
    fail(ExitCode::bad_input, "{}: the output and the input {} {}; choose another place", paths.output, input,
         out == in ? "are the same" : "lie inside one another");
  }
}

/// The partial as it lies on disk, its tensors in the order of `like`.
Checkpoint reopen(const fs::path& partial, const Checkpoint& like) {
  Checkpoint found = open_checkpoint(partial);
  std::unordered_map<std::string, TensorInfo> by_name;
  for (TensorInfo& tensor : found.tensors) by_name.emplace(tensor.name, std::move(tensor));
  found.tensors.clear();
  for (const TensorInfo& tensor : like.tensors) {
    const auto match = by_name.find(tensor.name);
    if (match == by_name.end() || match->second.shape != tensor.shape ||
        match->second.dtype != tensor.dtype) {
      fail(ExitCode::bad_input, "{}: the unfinished output has lost tensor '{}'; remove it and its .journal",
           partial, tensor.name);
    }
    found.tensors.push_back(match->second);
  }
  return found;
}

void copy_other_files(const Checkpoint& from, const Checkpoint& to) {
  std::unordered_map<std::string, const OtherFile*> by_name;
  for (const OtherFile& file : from.other_files) by_name.emplace(file.name, &file);
  FileStorage source(from, FileStorage::Access::read);
  FileStorage target(to, FileStorage::Access::write);
  for (const OtherFile& file : to.other_files) {
    const auto match = by_name.find(file.name);
    if (match == by_name.end() || file.extent.bytes == 0) continue;
    const Extent from_place = match->second->extent;
    copy_bytes([&](std::uint64_t at, std::span<std::byte> to_fill) { source.read(from_place, at, to_fill); },
               target, file.extent, 0, file.extent.bytes);
    target.sync(file.extent);
  }
}

/// What a sign says; an empty object if there is none or it says nothing.
json read_sign(const OutputPaths& paths) {
  std::error_code ignored;
  if (!fs::exists(paths.sign(), ignored)) return json::object();
  const json sign = json::parse(read_text(paths.sign(), largest_sign), nullptr, false);
  return sign.is_object() ? sign : json::object();
}

/// How `identity` differs from what a sign says, as a sentence; empty if it does not.
std::string difference(const json& identity, const json& sign) {
  const std::string version =
      first_difference(journal_version, sign.value("lox_journal", json()), "lox_journal");
  return version.empty() ? first_difference(identity, sign.value("identity", json()), "") : version;
}

}  // namespace

OutputPaths::OutputPaths(const fs::path& path)
    : output(without_slash(path)),
      partial(with_ending(output, ".partial")),
      journal(with_ending(output, ".journal")) {}

void check_output(const fs::path& output, const OutputRules& rules) try {
  if (output.empty()) fail(ExitCode::bad_input, "the path of the output is empty");
  const OutputPaths paths(output);
  for (const fs::path& input : rules.inputs) check_apart(paths, input);
  check_folder(paths.output);
  if (!is_there(paths.output)) return;
  if (!rules.overwrite) {
    fail(ExitCode::bad_input, "{}: exists already; say --overwrite to replace it", paths.output);
  }
  if (!may_be_replaced(paths.output)) {
    fail(ExitCode::bad_input,
         "{}: exists and is not such a model; --overwrite does not remove it, do so by hand", paths.output);
  }
} catch (const fs::filesystem_error& error) {
  fail(ExitCode::bad_input, "{}", error.what());
}

void check_space(const fs::path& output, std::uint64_t bytes) {
  const std::uint64_t room = free_space(output);
  // Headers, the journal and the report come on top.
  const std::uint64_t needed = bytes + (std::uint64_t{16} << 20);
  if (needed > room) {
    fail(ExitCode::io,
         "{}: the output needs {}, but its file system has {} free; free some, or choose another --output",
         output, format_bytes(static_cast<double>(needed)), format_bytes(static_cast<double>(room)));
  }
}

Output Output::create(const fs::path& path, const OutputRules& rules, const Checkpoint& like, Space space) {
  Output output(path);
  const fs::path& partial = output.paths_.partial;
  check_output(path, rules);
  if (is_there(partial)) {
    if (!rules.overwrite) {
      fail(ExitCode::bad_input, "{}: left by a run that did not finish; remove it, or say --overwrite",
           partial);
    }
    remove_tree(partial);
  }
  output.table_ = create_checkpoint(like, partial, format_of(output.paths_.output), space);
  output.temporary_ = true;
  return output;
}

Output Output::open(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                    const json& identity, const json& notes) {
  Output output(path);
  const OutputPaths& paths = output.paths_;
  const bool known = fs::exists(paths.sign());
  const bool published = known && !fs::exists(paths.partial) && fs::exists(paths.output);
  check_output(path, {rules.overwrite || published, rules.inputs});
  const bool fresh = fs::create_directory(paths.journal);
  output.lock_ = std::make_unique<OutputLock>(paths.lock());
  // From here on this job alone owns the partial and the journal.
  if (known && (published || fs::exists(paths.partial))) {
    const std::string changed = difference(identity, read_sign(paths));
    if (changed.empty()) {
      if (!published) output.table_ = reopen(paths.partial, like);
      output.state_ = published ? State::published : State::resumed;
      return output;
    }
    if (published) check_output(path, rules);
    if (!rules.overwrite) {
      fail(ExitCode::bad_input,
           "{}: belongs to another job: {}; run that job to its end, or throw it away with --overwrite",
           paths.partial, changed.c_str());
    }
  } else if (fs::exists(paths.partial) && fresh && !rules.overwrite) {
    output.lock_.reset();
    remove_tree(paths.journal);
    fail(ExitCode::bad_input,
         "{}: exists, but without a journal to go on from; remove it, or use --overwrite", paths.partial);
  }
  try {
    output.discard();
    fs::create_directory(paths.journal);
    output.lock_ = std::make_unique<OutputLock>(paths.lock());
    output.table_ = create_checkpoint(like, paths.partial, format_of(paths.output));
    copy_other_files(like, output.table_);
    const json sign{{"lox_journal", journal_version}, {"identity", identity}, {"notes", notes}};
    write_text_atomically(paths.sign(), sign.dump());
  } catch (...) {
    output.discard();
    throw;
  }
  return output;
}

Output::Output(Output&& other) noexcept
    : paths_(std::move(other.paths_)),
      state_(other.state_),
      table_(std::move(other.table_)),
      lock_(std::move(other.lock_)),
      temporary_(std::exchange(other.temporary_, false)) {}

Output& Output::operator=(Output&& other) noexcept {
  std::swap(paths_, other.paths_);
  std::swap(state_, other.state_);
  std::swap(table_, other.table_);
  std::swap(lock_, other.lock_);
  std::swap(temporary_, other.temporary_);
  return *this;
}

Output::~Output() {
  if (!temporary_) return;
  std::error_code ignored;
  fs::remove_all(paths_.partial, ignored);
}

void Output::publish() {
  const fs::path aside = with_ending(paths_.output, ".replaced-by-lox");
  // A file is replaced in one step; a folder must be out of the way first.
  const bool in_the_way = is_there(paths_.output) && fs::is_directory(fs::symlink_status(paths_.partial));
  if (in_the_way) {
    remove_tree(aside);
    rename_durably(paths_.output, aside);
  }
  try {
    rename_durably(paths_.partial, paths_.output);
  } catch (...) {
    std::error_code ignored;
    if (in_the_way) fs::rename(aside, paths_.output, ignored);
    throw;
  }
  temporary_ = false;
  std::error_code ignored;
  fs::remove_all(aside, ignored);
}

void Output::close() {
  remove_tree(paths_.journal);
  lock_.reset();
}

void Output::discard() {
  lock_.reset();
  // The journal's sign goes first: a partial without it is never resumed.
  std::error_code ignored;
  fs::remove(paths_.sign(), ignored);
  remove_tree(paths_.partial);
  remove_tree(paths_.journal);
  temporary_ = false;
}

std::optional<json> unfinished_identity(const fs::path& output) {
  const json sign = read_sign(OutputPaths(output));
  const auto found = sign.find("identity");
  return found == sign.end() ? std::nullopt : std::optional<json>(*found);
}

OutputStatus output_status(const fs::path& output) {
  OutputStatus status;
  const OutputPaths paths(output);
  std::error_code ignored;
  if (fs::exists(paths.sign(), ignored)) {
    status.notes = read_sign(paths).value("notes", json::object());
    status.holder = OutputLock::holder(paths.lock()).value_or("");
    status.state = OutputStatus::State::unfinished;
  }
  if (fs::exists(paths.output, ignored) && !fs::exists(paths.partial, ignored)) {
    status.state = OutputStatus::State::finished;
  }
  return status;
}

}  // namespace lox
