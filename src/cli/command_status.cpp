// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"
#include "lox/io/output.hpp"
#include "lox/io/text_output.hpp"
#include "lox/plan/job.hpp"
#include "lox/report/json.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/progress.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace po = boost::program_options;

namespace lox {
namespace {

/// What a finished output's report tells.
struct Finished {
  nlohmann::json job;
  Counts done;
};

/// What was done, a matrix or a copied tensor being an item, as in the journal of a run.
Counts counts_of(const Report& report) {
  Counts counts;
  for (const TensorEntry& tensor : report.tensors)
    counts.items += static_cast<std::int64_t>(std::max<std::size_t>(1, tensor.batch.size()));
  counts.bytes = report.bytes_written;
  return counts;
}

/// Throws Error(bad_input) if no job of lox vouches for this output.
Finished read_proof(const fs::path& output, const fs::path& path) {
  const nlohmann::ordered_json text = read_text_output(output);  // which vouches for itself
  if (text.is_object()) {
    const auto tensors = text.value("tensors", nlohmann::ordered_json::array());
    return {text.value("job", nlohmann::ordered_json::object()),
            {fs::file_size(output), static_cast<std::int64_t>(tensors.size())}};
  }
  if (!fs::exists(path)) {
    fail(ExitCode::bad_input, "{}: exists, but its report {} does not: no job of lox vouches for it", output,
         path);
  }
  const Report report = read_report(path);
  if (!is_of(report, open_checkpoint(output))) {
    fail(ExitCode::bad_input, "{}: is not the output that {} describes: no job of lox vouches for it", output,
         path);
  }
  return {report.job, counts_of(report)};
}

}  // namespace

ExitCode run_status(const Arguments& arguments) {
  Options options("status", "OUTPUT [--report FILE] [--json]",
                  "Tells how far an output of harden is and whether a job is at work on it.\n"
                  "Exit code: 0 finished, 75 unfinished and resumable, 3 nothing is there.",
                  "  lox status hardened");
  bool json = false;
  std::string report;
  options.add({.name = "report", .value = "FILE", .brief = "that harden wrote; else OUTPUT.report.json"},
              report);
  options.add({.name = "json", .brief = "for programs"}, json);
  options.add_positional("OUTPUT");
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  const OutputPaths paths(values["OUTPUT"].as<std::string>());
  const OutputStatus status = output_status(paths.output);
  const bool finished = status.state == OutputStatus::State::there;
  if (status.state == OutputStatus::State::absent) {
    fail(ExitCode::bad_input, "{}: neither an output nor an unfinished one", paths.output);
  }
  Job job;
  job.output = paths.output;
  job.report = report;
  nlohmann::json made_by;
  Counts done;
  std::int64_t items = 0;
  if (finished) {
    const Finished proof = read_proof(paths.output, report_path(job));
    made_by = proof.job;
    done = proof.done;
    items = done.items;
  } else {
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
                                     {"holder", status.holder},
                                     {"job", made_by}};
    fmt::print("{}\n", all.dump(1));
  } else if (finished) {
    std::string text = "finished";
    for (const char* parameter : {"k", "coef"}) {  // a store of factors has no coef
      if (made_by.contains(parameter))
        text += fmt::format(", {} {}", parameter, made_by.at(parameter).dump());
    }
    print("{}: {}\n", paths.output, text);
  } else {
    print("{}: unfinished, {} of {} items done ({} written); {}\n", paths.output, done.items, items,
          format_bytes(static_cast<double>(done.bytes)),
          status.holder.empty() ? "no job is at work on it, the same harden command goes on"
                                : status.holder.c_str());
  }
  return finished ? ExitCode::done : ExitCode::stopped;
}

}  // namespace lox
