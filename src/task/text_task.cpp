// SPDX-License-Identifier: MIT
#include "lox/task/text_task.hpp"

#include "lox/io/identity.hpp"
#include "lox/task/job_identity.hpp"
#include "lox/task/report_place.hpp"
#include "lox/task/resume.hpp"
#include "lox/task/session.hpp"

#include <utility>

namespace lox {
namespace {

nlohmann::json identity_of(const TextAsked& asked) {
  return identity_of_job(asked.task, asked.parameters, asked.inputs);
}

OutputRules rules_of(const TextAsked& asked) {
  OutputRules rules{asked.overwrite, {}};
  for (const NamedModel& input : asked.inputs) rules.inputs.push_back(input.table->path);
  return rules;
}

}  // namespace

Planned TextTask::foresee(const TextAsked& asked) {
  Planned planned;
  switch (TextOutput::foresee(asked.output, rules_of(asked), identity_of(asked))) {
    case TextOutput::State::fresh:
      planned.state = Output::State::fresh;
      break;
    case TextOutput::State::resumed:
      planned.state = Output::State::resumed;
      break;
    case TextOutput::State::finished:
      planned.state = Output::State::published;
      break;
  }
  return planned;
}

TextTask::TextTask(const Comm& comm, const Log& log, TextAsked asked, Plan plan, Resources resources)
    : comm_(comm), log_(log), asked_(std::move(asked)), plan_(std::move(plan)), resources_(resources) {}

bool TextTask::begin() {
  const fs::path journal = OutputPaths(asked_.output).journal;
  int run = 1;
  on_root(comm_, [&] {
    identity_ = identity_of(asked_);
    output_.emplace(asked_.output, rules_of(asked_), identity_,
                    nlohmann::json{{"items", plan_.items.size()}});
    if (output_->state() == TextOutput::State::finished) {
      output_->finish();
      log_.info("{} was finished already", asked_.output);
      return;
    }
    if (output_->state() == TextOutput::State::resumed) finished_ = Journal::load(journal);
    run = Journal::next_run(journal);
  });
  const bool here = comm_.is_root() && output_->state() == TextOutput::State::finished;
  if (comm_.sum(std::int64_t{here ? 1 : 0}) > 0) return false;
  lock_ = join_lock(comm_, OutputPaths(asked_.output).lock(), comm_.is_root() ? &output_->lock() : nullptr);
  run = std::stoi(comm_.broadcast(std::to_string(run)));
  log_header(comm_, log_, resources_);  // after validation: an error is one line
  finished_ = broadcast_records(comm_, std::move(finished_));
  total_ = count_items(plan_.items, asked_.moves);
  earlier_ = drop_done(plan_.items, *asked_.inputs.front().table, finished_, asked_.moves, comm_.size());
  if (comm_.is_root() && output_->state() == TextOutput::State::resumed) {
    log_.info("going on with {}: {} of {} items are finished", asked_.output, earlier_.items, total_.items);
  }
  journal_.emplace(journal, run, comm_.rank());
  return true;
}

void TextTask::work(LocalSteps& alone, GridSteps* together) {
  done_ = do_items(comm_, log_, plan_, alone, together, *journal_, total_, earlier_, memory());
}

void TextTask::throw_away() {
  if (!output_) return;
  if (output_->state() == TextOutput::State::fresh) {
    output_->discard();
  } else {
    log_.warn("{} is left as it is: it holds the work of earlier runs", output_->paths().journal);
  }
}

ExitCode TextTask::conclude(const Make& make) {
  journal_.reset();
  lock_.reset();
  try {
    agree(comm_, done_.failure);
  } catch (...) {
    throw_away();
    throw;
  }
  RunTotals totals = sum_up(comm_, done_);
  const bool whole = comm_.sum(done_.counts.items) == total_.items - earlier_.items;
  std::vector<Record> all = gather_records(comm_, done_.records);
  if (!whole) {
    log_.info("stopped early; the same command goes on from here");
    return ExitCode::stopped;
  }
  on_root(comm_, [&] {
    for (const NamedModel& input : asked_.inputs)
      check_unchanged(std::string(input.name), *input.table, identity_[std::string(input.name)]);
    all.insert(all.begin(), finished_.begin(), finished_.end());
    totals.seconds = start_.seconds();
    try {
      output_->finish(make(latest(std::move(all)), totals));
    } catch (const Error& error) {
      if (is_fault_of_data(error)) throw_away();
      throw;
    }
    log_.info("wrote {}", asked_.output);
  });
  return ExitCode::done;
}

}  // namespace lox
