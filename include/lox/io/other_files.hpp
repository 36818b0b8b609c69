// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <set>
#include <string>
#include <vector>

namespace lox {

/// The copy of its report that lies in the folder of what lox has made. It tells of the model and is no part
/// of it.
inline constexpr const char* report_in_folder = "lox_report.json";

/// Appends to `other_files` and `files` all files under `directory`, sorted by name, but those called
/// `without` and those that are no part of a model (.git*, .cache, the report). Links to files are followed,
/// links to folders are not.
void list_other_files(const fs::path& directory, const std::set<std::string>& without,
                      Checkpoint& checkpoint);

/// Throws Error(bad_input) unless `name` is a relative path that stays below where it is put. `file` holds
/// the name.
void check_other_file_name(const std::string& name, const fs::path& file);

}  // namespace lox
