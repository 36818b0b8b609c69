// SPDX-License-Identifier: MIT
#pragma once
#include "lox/report/report.hpp"

#include <string>

namespace lox {

/// The report for programs, keys in the order of docs/usage.md.
nlohmann::ordered_json report_to_json(const Report& report);

/// A report from its JSON, of this lox or an earlier one: what an earlier one did not tell is left as it is
/// in an empty report, but `missed`, which is then infinite. Throws nlohmann::json::exception or
/// Error(bad_input) if it is something else.
Report report_from_json(const nlohmann::ordered_json& json);

/// The report of what `path` names. Of a folder: the one in it, else the one beside it; of a model in one
/// file: the one beside it; another file is the report itself. Throws Error(bad_input) if there is none.
fs::path report_file(const fs::path& path);

/// The report in a file; an empty one, which is of no output, if none is there.
Report read_report(const fs::path& path);

}  // namespace lox
