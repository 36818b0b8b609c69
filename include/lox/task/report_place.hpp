// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/output.hpp"

#include <vector>

namespace lox {

/// Throws Error(bad_input) if a report at `report` would take the place of another file: if it, or the
/// half-written file beside it, is a file of an input or of the output, its partial or its journal, or lies
/// in the folder of one. Which files are the same says the file system, whatever they are called and whatever
/// links lead there. To be asked before the output is opened.
void check_report(const fs::path& report, const OutputPaths& output, const std::vector<fs::path>& inputs);

/// Makes a file where the report is written, and takes it away. Throws Error(bad_input) if that cannot be:
/// better now than at the end of a long run.
void try_report(const fs::path& report);

}  // namespace lox
