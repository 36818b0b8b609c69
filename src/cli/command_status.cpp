// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"
#include "lox/run/workspace.hpp"

#include <nlohmann/json.hpp>

namespace po = boost::program_options;

namespace lox {

ExitCode run_status(const Arguments& arguments) {
  Options options("status", "OUTPUT [--json]",
                  "Tells how far an output of harden is and whether a job is at work on it.\n"
                  "Exit code: 0 finished, 75 unfinished and resumable, 3 nothing is there.",
                  "  lox status hardened");
  bool json = false;
  options.add({.name = "json", .brief = "for programs"}, json);
  options.add_positional("OUTPUT");
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  fs::path output = values["OUTPUT"].as<std::string>();
  if (!output.has_filename()) output = output.parent_path();
  const OutputStatus status = output_status(output);
  const bool finished = status.state == OutputStatus::State::finished;
  if (status.state == OutputStatus::State::absent) {
    fail(ExitCode::bad_input, "{}: neither an output nor an unfinished one", output);
  }
  if (json) {
    const nlohmann::ordered_json all{{"state", finished ? "finished" : "unfinished"},
                                     {"items", status.items},
                                     {"items_finished", status.items_finished},
                                     {"bytes_finished", status.bytes_finished},
                                     {"holder", status.holder}};
    fmt::print("{}\n", all.dump(1));
  } else if (finished) {
    print("{}: finished\n", output);
  } else {
    print("{}: unfinished, {} of {} items done ({} written); {}\n", output, status.items_finished,
          status.items, format_bytes(static_cast<double>(status.bytes_finished)),
          status.holder.empty() ? "no job is at work on it, the same harden command goes on" : status.holder);
  }
  return finished ? ExitCode::done : ExitCode::stopped;
}

}  // namespace lox
