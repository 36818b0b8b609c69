// SPDX-License-Identifier: MIT
#include "lox/task/journaled.hpp"

#include "lox/base/error.hpp"
#include "lox/io/identity.hpp"
#include "lox/io/other_files.hpp"
#include "lox/plan/cost.hpp"
#include "lox/report/json.hpp"
#include "lox/report/text.hpp"
#include "lox/task/job_identity.hpp"
#include "lox/task/report_place.hpp"
#include "lox/task/resume.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// Whether the report of an output tells that what stands there is this job's.
bool is_vouched_for(const JournaledOutputs::Place& place, const nlohmann::json& identity) {
  if (!fs::exists(place.output)) return false;
  const Report report = read_report(place.report);
  return report.proof.fingerprint == fingerprint_of(identity) && is_of(report, open_checkpoint(place.output));
}

/// Of outputs that get their names together somebody may have taken one away.
void refuse_half_of_them(const std::vector<std::pair<Output::State, fs::path>>& outputs) {
  const auto in = [&](Output::State state) {
    return std::ranges::find(outputs, state, &std::pair<Output::State, fs::path>::first);
  };
  const auto named = in(Output::State::published);
  const auto gone = in(Output::State::fresh);
  if (named == outputs.end() || gone == outputs.end()) return;
  fail(ExitCode::bad_input,
       "{}: was finished together with {}, which is gone; move it away and run this again, or ask for what "
       "is gone alone",
       named->second, gone->second);
}

OutputRules rules_of(const JournaledOutputs& asked) {
  OutputRules rules{asked.overwrite, {}};
  for (const auto& input : asked.inputs) rules.inputs.push_back(input.table->path);
  return rules;
}

/// Checks where the reports go, before an output is opened. Returns what makes the job this one.
nlohmann::json checked_identity(const JournaledOutputs& asked, const OutputRules& rules) {
  nlohmann::json identity = identity_of_job(asked.task, asked.parameters, asked.inputs);
  for (const auto& place : asked.places) check_report(place.report, OutputPaths(place.output), rules.inputs);
  return identity;
}

/// The room that those of the outputs need which are still to be made.
std::vector<Room> rooms_of(const JournaledOutputs& outputs) {
  std::vector<Room> rooms;
  for (const auto& place : outputs.places) {
    const OutputPaths paths(place.output);
    const bool finished = is_there(paths.output) && !outputs.overwrite;
    if (finished || is_there(paths.partial) || is_there(paths.sign())) continue;
    rooms.push_back({place.output, outputs.disk});
  }
  return rooms;
}

}  // namespace

Planned foresee(const JournaledOutputs& outputs) {
  const OutputRules rules = rules_of(outputs);
  const nlohmann::json identity = checked_identity(outputs, rules);
  std::vector<std::pair<Output::State, fs::path>> found;
  for (const auto& place : outputs.places) {
    const auto vouched = [&] { return is_vouched_for(place, identity); };
    found.emplace_back(Output::foresee(place.output, rules, *outputs.like, identity, vouched), place.output);
  }
  refuse_half_of_them(found);
  for (const auto& place : outputs.places) check_report_folder(place.report);
  Planned planned;
  planned.state = found.front().first;
  planned.rooms = rooms_of(outputs);
  return planned;
}

void check_report_folder(const fs::path& report) {
  const fs::path folder = normal_path(report).parent_path();
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail(ExitCode::bad_input, "{}: the report cannot be written there: {}", report, std::strerror(errno));
  }
}

JournaledTask::JournaledTask(const Comm& comm, const Log& log, JournaledOutputs outputs, Plan plan,
                             Resources resources, RunOptions run)
    : comm_(comm),
      log_(log),
      asked_(std::move(outputs)),
      plan_(std::move(plan)),
      resources_(resources),
      run_options_(run) {}

/// Outputs get their names in reverse, the first one last: where it has its name, all have.
void JournaledTask::open_on_root() {
  const OutputRules rules = rules_of(asked_);
  check_space(rooms_of(asked_));
  identity_ = checked_identity(asked_, rules);
  const nlohmann::json notes{{"items", plan_.items.size()}};
  try {
    for (const auto& place : asked_.places) {
      const bool all_have_names = !outputs_.empty() && outputs_.front().state() == Output::State::published;
      if (all_have_names && !is_there(OutputPaths(place.output).journal) && is_vouched_for(place, identity_))
        continue;
      outputs_.push_back(Output::open(place.output, rules, *asked_.like, identity_, notes,
                                      [&] { return is_vouched_for(place, identity_); }));
    }
    std::vector<std::pair<Output::State, fs::path>> found;
    for (const Output& output : outputs_) found.emplace_back(output.state(), output.paths().output);
    refuse_half_of_them(found);
    for (const auto& place : asked_.places) {
      check_report_folder(place.report);
      try_report(place.report);
    }
  } catch (...) {
    for (Output& output : outputs_) {
      if (output.state() == Output::State::fresh) output.discard();
    }
    throw;
  }
}

/// False if the outputs were finished.
bool JournaledTask::open() {
  bool published = false;
  tables_.resize(asked_.places.size());
  on_root(comm_, [&] {
    open_on_root();
    const fs::path journal = outputs_.front().paths().journal;
    published = outputs_.front().state() == Output::State::published;
    if (published) {
      for (const auto& place : asked_.places) remove_half_written(place.report);
      for (auto output = outputs_.rbegin(); output != outputs_.rend(); ++output) output->finish();
      for (const auto& place : asked_.places) log_.info("{} was finished already", place.output);
      return;
    }
    // What is finished is finished in all outputs, or in none.
    resumed_ =
        std::ranges::none_of(outputs_, [](const Output& o) { return o.state() == Output::State::fresh; });
    if (resumed_) finished_ = Journal::load(journal);
    for (std::size_t i = 0; i < outputs_.size(); ++i) tables_[i] = outputs_[i].table();
    run_ = Journal::next_run(journal);
  });
  if (comm_.sum(std::int64_t{published ? 1 : 0}) > 0) return false;
  for (std::size_t i = 0; i < asked_.places.size(); ++i) {
    const Output* const output = comm_.is_root() ? &outputs_[i] : nullptr;
    if (auto lock = Output::join(comm_, asked_.places[i].output, output)) locks_.push_back(std::move(*lock));
  }
  run_ = std::stoi(comm_.broadcast(std::to_string(run_)));
  return true;
}

bool JournaledTask::begin() {
  if (!open()) return false;
  log_header(comm_, log_, resources_);  // after validation: an error is one line
  for (Checkpoint& table : tables_) broadcast(comm_, table);
  finished_ = broadcast_records(comm_, std::move(finished_));
  const fs::path journal = OutputPaths(asked_.places.front().output).journal;
  if (run_options_.recheck) finished_ = recheck(comm_, tables_, journal, std::move(finished_), log_);
  total_ = count_items(plan_.items, asked_.moves);
  earlier_ = drop_done(plan_.items, *asked_.leading, finished_, asked_.moves, comm_.size());
  if (comm_.is_root() && resumed_) {
    log_.info("going on with {}: {} of {} items are finished", asked_.places.front().output, earlier_.items,
              total_.items);
  }
  if (asked_.like == asked_.leading) {  // outputs that carry the model's files along
    for (const auto& place : asked_.places) warn_of_left_files(*asked_.like, place.output, log_);
  }
  journal_.emplace(journal, run_, comm_.rank());
  return true;
}

/// Of outputs that cannot be finished nothing is left, but for the work of earlier runs.
void JournaledTask::throw_away() {
  for (Output& output : outputs_) {
    if (!resumed_) {
      output.discard();
    } else {
      log_.warn("{} and its journal are left as they are: they hold the work of earlier runs",
                output.paths().partial);
    }
  }
}

void JournaledTask::work(LocalSteps& alone, GridSteps* together) {
  done_ = do_items(comm_, log_, plan_, alone, together, *journal_, total_, earlier_, memory());
}

/// Beside output `i` and, if that is a folder, in it.
void JournaledTask::write_report(std::size_t i, Report& report) {
  const auto absolute = [](const fs::path& path) { return printable(normal_path(path).native(), SIZE_MAX); };
  for (const auto& input : asked_.inputs)
    report.made["paths"][std::string(input.name)] = absolute(input.table->path);
  report.made["paths"]["output"] = absolute(asked_.places[i].output);
  const Checkpoint written = open_checkpoint(tables_[i].path);  // in the order in which a reader finds it
  report.proof = {fingerprint_of(identity_), table_checksum(written), written.bytes()};
  const std::string text = report_to_json(report).dump(1) + "\n";
  const bool open = outputs_[i].state() != Output::State::published;
  if (open && written.format == Format::safetensors_directory) outputs_[i].put(report_in_folder, text);
  write_text_atomically(asked_.places[i].report, text);
}

/// A job that is stopped again and again before one item is finished would be requeued for ever.
void JournaledTask::tell_of_idle_run() const {
  constexpr int at_most = 5;
  const int idle = Journal::idle_runs(OutputPaths(asked_.places.front().output).journal);
  const char* const remedy =
      "give the job more time (sbatch's --time, --time-limit), more ranks, or solve by all of them (--grid "
      "always)";
  if (idle < at_most) {
    log_.warn("this run was stopped before one matrix was finished; if that happens again, {}", remedy);
    return;
  }
  fail(ExitCode::usage,
       "{}: {} runs in a row were stopped before one matrix was finished; {}, then the same command goes on",
       asked_.places.front().output, idle, remedy);
}

ExitCode JournaledTask::conclude(const Finish& finish) {
  journal_.reset();
  locks_.clear();
  try {
    agree(comm_, done_.failure);
  } catch (...) {
    throw_away();
    throw;
  }
  RunTotals totals = sum_up(comm_, done_);
  const std::int64_t finished_now = comm_.sum(done_.counts.items);
  const bool whole = finished_now == total_.items - earlier_.items;
  std::vector<Record> all = gather_records(comm_, done_.records);
  if (!whole) {
    if (finished_now == 0) on_root(comm_, [&] { tell_of_idle_run(); });
    log_.info("stopped early; the same command goes on from here");
    return ExitCode::stopped;
  }
  const nlohmann::ordered_json made = made_here(comm_);
  on_root(comm_, [&] {
    for (const auto& input : asked_.inputs)
      check_unchanged(std::string(input.name), *input.table, identity_[std::string(input.name)]);
    all.insert(all.begin(), finished_.begin(), finished_.end());
    all = latest(std::move(all));
    std::vector<const Checkpoint*> targets;
    for (const Checkpoint& table : tables_) targets.push_back(&table);
    put_edges(outputs_.front().paths().journal, all, targets);
    totals.seconds = start_.seconds();
    std::vector<Report> reports;
    try {
      reports = finish(std::move(all), totals);
    } catch (const Error& error) {
      if (is_fault_of_data(error)) throw_away();
      throw;
    }
    for (std::size_t i = 0; i < reports.size(); ++i) {
      reports[i].made = made;
      write_report(i, reports[i]);
    }
    for (auto output = outputs_.rbegin(); output != outputs_.rend(); ++output) {
      if (output->state() != Output::State::published) output->publish();
    }
    for (auto output = outputs_.rbegin(); output != outputs_.rend(); ++output) output->close();
    log_efficiency(log_, reports.front(), memory());
    for (const Report& report : reports) log_summary(log_, report);
    for (const auto& place : asked_.places) log_.info("wrote {} and {}", place.output, place.report);
  });
  return ExitCode::done;
}

}  // namespace lox
