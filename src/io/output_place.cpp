// SPDX-License-Identifier: MIT
#include "lox/io/output_place.hpp"

#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"
#include "lox/base/units.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/io/output.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

fs::path with_ending(fs::path path, const char* ending) {
  path += ending;
  return path;
}

/// Overwriting removes a whole tree: only what looks like a model may go.
bool may_be_replaced(const fs::path& output) {
  std::error_code error;
  const bool is_folder = fs::is_directory(output, error);
  if (format_of(output) != Format::safetensors_directory) return !is_folder;
  if (!is_folder) return false;
  for (fs::directory_iterator entry(output, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") return true;
  }
  return false;
}

void check_folder(const fs::path& output) {
  const fs::path folder = normal_path(output).parent_path();
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    fail(ExitCode::bad_input, "{}: its folder {} does not exist; make it first", output, folder);
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail(ExitCode::bad_input, "{}: no permission to write in {}: {}", output, folder, std::strerror(errno));
  }
}

void check_apart(const OutputPaths& paths, const fs::path& input) {
  const fs::path in = normal_path(input);
  for (const fs::path& path : {paths.output, paths.partial, paths.journal}) {
    const fs::path out = normal_path(path);
    if (out != in && !is_within(out, in) && !is_within(in, out)) continue;
    fail(ExitCode::bad_input, "{}: the output and the input {} {}; choose another place", path, input,
         out == in ? "are the same" : "lie inside one another");
  }
}

/// Whether lox makes files of this name in a journal: "rank-00003.jsonl", "rank-00003.0002.edges".
bool is_of_a_journal(std::string_view name) {
  static constexpr std::array<std::string_view, 4> names{"lock", "job.json", "job.json.tmp", "replaced"};
  if (std::ranges::find(names, name) != names.end()) return true;
  constexpr std::string_view start = "rank-";
  if (!name.starts_with(start) || !(name.ends_with(".jsonl") || name.ends_with(".edges"))) return false;
  name.remove_prefix(start.size());
  name.remove_suffix(std::string_view(".jsonl").size());
  return !name.empty() && name.find_first_not_of("0123456789.") == std::string_view::npos;
}

/// A folder that is not one of lox's is left alone, whatever it is called.
void check_journal(const OutputPaths& paths) {
  const fs::path& journal = paths.journal;
  if (!is_there(journal)) return;
  const auto refuse = [&](const fs::path& odd) {
    fail(ExitCode::bad_input, "{}: is not a journal of lox; move it away, or choose another --output", odd);
  };
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(journal, error))) refuse(journal);
  if (!is_there(paths.sign())) {
    if (is_there(paths.replaced())) refuse(paths.replaced());  // lox removes the sign after it
  } else if (!read_sign(paths).contains("lox_journal")) {
    refuse(paths.sign());
  }
  for (fs::directory_iterator entry(journal, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_of_a_journal(entry->path().filename().string())) refuse(entry->path());
  }
  if (error) fail(ExitCode::bad_input, "{}: cannot be read: {}", journal, error.message());
}

}  // namespace

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool remove_file(const fs::path& path) {
  fault_point("remove");
  std::error_code ignored;
  return fs::remove(path, ignored);
}

void remove_tree(const fs::path& path) {
  fault_point("remove");
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(ExitCode::io, "{}: cannot remove: {}", path, error.message());
}

void clear_journal(const OutputPaths& paths) {
  std::error_code ignored;
  std::vector<fs::path> own;
  for (const fs::directory_entry& entry : fs::directory_iterator(paths.journal, ignored)) {
    const std::string name = entry.path().filename().string();
    if (is_of_a_journal(name) && entry.path() != paths.lock() && entry.path() != paths.sign())
      own.push_back(entry.path());
  }
  for (const fs::path& path : own) {
    if (path == paths.replaced()) {
      remove_tree(path);
    } else {
      remove_file(path);
    }
  }
}

OutputPaths::OutputPaths(const fs::path& path)
    : output(without_slash(path)),
      partial(with_ending(output, ".partial")),
      journal(with_ending(output, ".journal")) {}

void check_output_place(const fs::path& output, const std::vector<fs::path>& inputs) {
  if (output.empty()) fail(ExitCode::bad_input, "the path of the output is empty");
  const OutputPaths paths(output);
  for (const fs::path& input : inputs) check_apart(paths, input);
  check_folder(paths.output);
  for (const fs::path& path : {paths.partial, paths.journal}) check_name(path);
  check_journal(paths);
}

void check_output(const fs::path& output, const OutputRules& rules) {
  check_output_place(output, rules.inputs);
  const OutputPaths paths(output);
  if (!is_there(paths.output)) return;
  if (!rules.overwrite) {
    fail(ExitCode::bad_input, "{}: exists already; say --overwrite to replace it", paths.output);
  }
  if (!may_be_replaced(paths.output)) {
    fail(ExitCode::bad_input,
         "{}: exists and is not such a model; --overwrite does not remove it, do so by hand", paths.output);
  }
}

void check_space(const std::vector<Room>& outputs) {
  struct Needed {
    const Room* first = nullptr;
    std::uint64_t bytes = 0;
    int others = 0;
  };
  std::map<dev_t, Needed> needed;  // by file system
  for (const Room& room : outputs) {
    struct stat status {};
    const fs::path folder = normal_path(room.output).parent_path();
    if (::stat(folder.c_str(), &status) != 0) continue;  // check_output() refuses that
    Needed& there = needed[status.st_dev];
    // Headers, the journal and the report come on top.
    there.bytes += room.bytes + (std::uint64_t{16} << 20);
    if (there.first == nullptr) {
      there.first = &room;
    } else {
      ++there.others;
    }
  }
  for (const auto& [device, there] : needed) {
    const fs::path& output = there.first->output;
    const std::uint64_t room = free_space(output);
    if (there.bytes <= room) continue;
    const std::string what =
        there.others == 0 ? "the output needs" : fmt::format("it and {} more outputs need", there.others);
    fail(ExitCode::io, "{}: {} {}, but its file system has {} free; free some, or choose another --output",
         output, what, format_bytes(static_cast<double>(there.bytes)),
         format_bytes(static_cast<double>(room)));
  }
}

}  // namespace lox
