// SPDX-License-Identifier: MIT
#include "lox/task/report_place.hpp"

#include "lox/base/error.hpp"

#include <optional>
#include <sys/stat.h>

namespace lox {
namespace {

/// A file or folder as the file system knows it.
struct Node {
  dev_t device = 0;
  ino_t number = 0;
  bool operator==(const Node&) const = default;
};

/// What a path leads to; nothing if there is nothing.
std::optional<Node> node_at(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return Node{status.st_dev, status.st_ino};
}

/// A path whose folder has no links in it; its last part may be one.
fs::path with_real_folder(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = without_slash(fs::absolute(path, error));
  return normal_path(absolute.parent_path()) / absolute.filename();
}

/// The path itself and, as long as it is a link, what that names: also where nothing is there yet.
std::vector<fs::path> with_its_links(const fs::path& path) {
  constexpr int too_many_links = 40;  // as the kernel has it
  std::vector<fs::path> all{with_real_folder(path)};
  std::error_code error;
  for (int i = 0; i < too_many_links && fs::is_symlink(all.back(), error); ++i) {
    const fs::path target = fs::read_symlink(all.back(), error);
    if (error) break;
    all.push_back(with_real_folder(all.back().parent_path() / target));
  }
  return all;
}

/// Whether two paths lead to one file, or will, once it is there.
bool same_place(const fs::path& a, const fs::path& b) {
  const auto node = node_at(a);
  if (node && node == node_at(b)) return true;
  const auto folder = node_at(a.parent_path());
  return a.filename() == b.filename() && folder && folder == node_at(b.parent_path());
}

/// Whether a path is `outer` or lies in it, by what the file system says.
bool lies_in(fs::path path, const fs::path& outer) {
  for (; path.has_relative_path(); path = path.parent_path()) {
    if (same_place(path, outer)) return true;
  }
  return false;
}

/// The file of a model that a path leads to; empty if there is none.
fs::path file_of_model(const fs::path& path, const fs::path& model) {
  const auto node = node_at(path);
  std::error_code error;
  if (!node || !fs::is_directory(model, error)) return {};
  for (fs::recursive_directory_iterator entry(model, error), end; !error && entry != end;
       entry.increment(error)) {
    if (node_at(entry->path()) == node) return entry->path();
  }
  return {};
}

void check_apart(const fs::path& report, const fs::path& file, const OutputPaths& output,
                 const std::vector<fs::path>& inputs) {
  for (const fs::path& place : {output.output, output.partial, output.journal}) {
    if (lies_in(file, with_real_folder(place))) {
      fail(ExitCode::bad_input,
           "{}: the report would lie in {}, which is the output's; choose another --report", report, place);
    }
  }
  for (const fs::path& input : inputs) {
    const fs::path place = with_real_folder(input);
    const fs::path hit = file_of_model(file, place);
    // Where the output itself lies in an input, that is what is wrong, and check_output says so.
    const bool inside = lies_in(file, place) && !lies_in(with_real_folder(output.output), place);
    if (hit.empty() && !inside) continue;
    fail(ExitCode::bad_input, "{}: the report would lie in the input {}{}; choose another --report", report,
         input, hit.empty() ? std::string() : to_line(", as {}", hit.lexically_relative(place)));
  }
}

}  // namespace

void check_report(const fs::path& report, const OutputPaths& output, const std::vector<fs::path>& inputs) {
  check_name(half_written(report));
  for (const fs::path& written : {report, half_written(report)}) {
    for (const fs::path& file : with_its_links(written)) check_apart(report, file, output, inputs);
  }
  std::error_code error;
  if (fs::is_directory(report, error)) {
    fail(ExitCode::bad_input, "{}: the report cannot be written there: it is a folder; name a file", report);
  }
}

void try_report(const fs::path& report) {
  remove_half_written(report);
  try {
    (void)File::create(half_written(report));
  } catch (const Error& error) {
    fail(ExitCode::bad_input, "{}: the report cannot be written there: {}; choose another --report", report,
         error.what());
  }
  remove_half_written(report);
}

}  // namespace lox
