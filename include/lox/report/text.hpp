// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/report/report.hpp"

#include <string>

namespace lox {

/// Which tensors share a row: those of one kind in all layers, or none.
enum class Rows { kinds, tensors };
/// The report as a table.
std::string report_table(const Report& report, Rows rows = Rows::kinds);

/// Where the time of the ranks went, and what memory they took of the `memory` that each may use.
void log_efficiency(const Log& log, const Report& report, std::uint64_t memory);
/// What was done, how exact it is, and what is promised.
void log_summary(const Log& log, const Report& report);

}  // namespace lox
