// SPDX-License-Identifier: MIT
#include "lox/cli/options.hpp"
#include "lox/report/json.hpp"
#include "lox/report/text.hpp"

namespace po = boost::program_options;

namespace lox {
ExitCode run_report(const Arguments& arguments) {
  Options options("report", "FILE",
                  "Shows the report of a hardened model as a table: tensors of one kind in all\n"
                  "layers make a row.",
                  "  lox report hardened.report.json");
  options.add_positional("FILE");
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  const std::string path = values["FILE"].as<std::string>();
  if (!fs::exists(path)) fail(ExitCode::bad_input, "{}: no such file", path);
  try {
    const std::string text = read_text(path, std::uint64_t{2} << 30);
    fmt::print("{}", report_table(report_from_json(nlohmann::ordered_json::parse(text))));
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_input, "{}: is not a report of lox: {}", path, error.what());
  }
  return ExitCode::done;
}

}  // namespace lox
