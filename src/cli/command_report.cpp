// SPDX-License-Identifier: MIT
#include "lox/cli/options.hpp"
#include "lox/report/csv.hpp"
#include "lox/report/json.hpp"
#include "lox/report/text.hpp"

namespace po = boost::program_options;

namespace lox {
namespace {

constexpr std::uint64_t largest = std::uint64_t{4} << 30;

NamedReport read(const std::string& asked) {
  const fs::path path = report_file(asked);
  try {
    return {path.string(), report_from_json(nlohmann::ordered_json::parse(read_text(path, largest)))};
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_input, "{}: is not a report of lox: {}", path, error.what());
  }
}

}  // namespace

ExitCode run_report(const Arguments& arguments) {
  Options options("report", "FILE|MODEL.. [options]",
                  "Shows reports of hardened models, and of stores of factors, as tables: tensors\n"
                  "of one kind in all layers make a row. Of a MODEL (a folder, .h5 or .safetensors)\n"
                  "it finds the report that lies in it or beside it.",
                  "  lox report hardened\n"
                  "  lox report hardened --csv > tensors.csv");
  bool tensors = false;
  bool csv = false;
  std::vector<std::string> files;
  options.add({.name = "tensors", .brief = "a row for each tensor"}, tensors);
  options.add({.name = "csv",
               .brief = "a line for each tensor, for programs",
               .text = "a line for each tensor and each matrix of a batch, comma-separated, with all numbers "
                       "of the report and the singular values"},
              csv);
  options.add_positionals("FILE", files);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  if (tensors && csv) fail(ExitCode::usage, "--csv has a line for each tensor; without --tensors");
  std::vector<NamedReport> reports;
  for (const std::string& file : files) reports.push_back(read(file));
  if (csv) {
    fmt::print("{}", reports_csv(reports));
    return ExitCode::done;
  }
  for (const NamedReport& one : reports) {
    if (&one != &reports.front()) fmt::print("\n");
    if (reports.size() > 1) print("{}:\n", one.file);
    fmt::print("{}", report_table(one.report, tensors ? Rows::tensors : Rows::kinds));
  }
  return ExitCode::done;
}

}  // namespace lox
