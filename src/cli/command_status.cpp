// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"
#include "lox/io/output.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/progress.hpp"

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
  const OutputPaths paths(values["OUTPUT"].as<std::string>());
  const OutputStatus status = output_status(paths.output);
  const bool finished = status.state == OutputStatus::State::finished;
  if (status.state == OutputStatus::State::absent) {
    fail(ExitCode::bad_input, "{}: neither an output nor an unfinished one", paths.output);
  }
  Counts done;
  std::int64_t items = 0;
  if (!finished) {
    const nlohmann::json noted = status.notes.value("items", nlohmann::json());
    if (noted.is_number_integer()) items = noted.get<std::int64_t>();
    for (const Record& record : latest(Journal::load(paths.journal))) {
      ++done.items;
      done.bytes += record.timing.bytes_written;
    }
  }
  if (json) {
    const nlohmann::ordered_json all{{"state", finished ? "finished" : "unfinished"},
                                     {"items", items},
                                     {"items_finished", done.items},
                                     {"bytes_finished", done.bytes},
                                     {"holder", status.holder}};
    fmt::print("{}\n", all.dump(1));
  } else if (finished) {
    print("{}: finished\n", paths.output);
  } else {
    print("{}: unfinished, {} of {} items done ({} written); {}\n", paths.output, done.items, items,
          format_bytes(static_cast<double>(done.bytes)),
          status.holder.empty() ? "no job is at work on it, the same harden command goes on"
                                : status.holder.c_str());
  }
  return finished ? ExitCode::done : ExitCode::stopped;
}

}  // namespace lox
