// SPDX-License-Identifier: MIT
#include "lox/io/other_files.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <unistd.h>

namespace lox {
namespace {

/// The report of what lies in this folder, and what a crash has left of it.
bool is_report(const std::string& name) {
  return name == report_in_folder || name == half_written(report_in_folder);
}

/// What version control and download tools leave behind.
bool is_no_part_of_a_model(const std::string& component) {
  return component.starts_with(".git") || component == ".cache";
}

OtherFile describe(const fs::path& path, const std::string& name, int file) {
  if (!is_utf8(name)) {
    fail(ExitCode::bad_input, "{}: its name is not UTF-8; rename it", path);
  }
  if (::access(path.c_str(), R_OK) != 0) {
    fail(ExitCode::bad_input, "{}: may not be read; ask for permission, or remove it from the model", path);
  }
  return {name, {file, 0, fs::file_size(path)}};
}

/// A link may lead about in the model's folder, or into the blobs of the download cache that it is part of
/// (repo/snapshots/x/config.json -> repo/blobs/y). What else it leads to is no part of a model, and perhaps
/// secret.
void check_link(const fs::path& link, const fs::path& directory) {
  const fs::path target = fs::canonical(link);
  const fs::path model = fs::canonical(directory);
  const fs::path blobs = target.parent_path();
  if (is_within(target, model) || (blobs.filename() == "blobs" && is_within(model, blobs.parent_path())))
    return;
  fail(ExitCode::bad_input,
       "{}: a link that leads out of the model, to {}; put the file itself there, or remove it", link,
       target);
}

}  // namespace

void list_other_files(const fs::path& directory, const std::set<std::string>& without,
                      Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, fs::path>> found;
  for (auto at = fs::recursive_directory_iterator(directory); at != fs::recursive_directory_iterator();
       ++at) {
    if (is_no_part_of_a_model(at->path().filename().string())) {
      if (at->is_directory()) at.disable_recursion_pending();
      continue;
    }
    if (at->is_symlink() && !at->exists()) {
      fail(ExitCode::bad_input, "{}: a link to nothing; is the download complete?", at->path());
    }
    const std::string name = at->path().lexically_relative(directory).generic_string();
    if (!at->is_regular_file() || is_report(name) || without.contains(name)) continue;
    if (at->is_symlink()) check_link(at->path(), directory);
    found.emplace_back(name, at->path());
  }
  std::sort(found.begin(), found.end());
  for (const auto& [name, path] : found) {
    checkpoint.other_files.push_back(describe(path, name, static_cast<int>(checkpoint.files.size())));
    checkpoint.files.push_back(path);
  }
}

void check_other_file_name(const std::string& name, const fs::path& file) {
  bool stays = !name.empty() && name.find('\0') == std::string::npos && is_utf8(name);
  for (std::size_t begin = 0; stays && begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view component = std::string_view(name).substr(begin, end - begin);
    stays = !component.empty() && component != "." && component != ".." && component.size() <= 255;
    begin = end + 1;
  }
  if (!stays) {
    fail(ExitCode::bad_input,
         "{}: holds a file called '{}', which is no relative path below a folder; refused", file, name);
  }
}

bool is_foreign_weights(const std::string& name) {
  // *.safetensors: a model's own shards are no other files, so these are others (consolidated*, in a
  // subfolder).
  static constexpr std::array<std::string_view, 15> endings{".safetensors",   ".bin",
                                                            ".pth",           ".pt",
                                                            ".gguf",          ".h5",
                                                            ".hdf5",          ".msgpack",
                                                            ".ckpt",          ".onnx",
                                                            ".distcp",        ".bin.index.json",
                                                            ".h5.index.json", ".msgpack.index.json",
                                                            ".onnx_data"};
  return name.starts_with("original/") ||
         std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

}  // namespace lox
