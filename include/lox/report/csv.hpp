// SPDX-License-Identifier: MIT
#pragma once
#include "lox/report/report.hpp"

#include <span>
#include <string>

namespace lox {

/// A report and the file that it was read from.
struct NamedReport {
  std::string file;
  Report report;
};

/// The reports as comma-separated values (RFC 4180, lines end in a line feed): a head, then a line for each
/// tensor and, after the line of a batch, one for each of its matrices. Numbers are written so that reading
/// gives the same double. Columns are those of the report, its singular values s_1 .. s_K last; what a tensor
/// has not got is empty.
std::string reports_csv(std::span<const NamedReport> reports);

}  // namespace lox
