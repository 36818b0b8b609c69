// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/timer.hpp"
#include "lox/io/output.hpp"
#include "lox/plan/plan.hpp"
#include "lox/report/report.hpp"
#include "lox/run/journal.hpp"
#include "lox/task/do_items.hpp"
#include "lox/task/planned.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace lox {

/// What a task with a journal writes, and of what.
struct JournaledOutputs {
  struct Place {
    fs::path output;
    fs::path report;
  };
  std::string task;
  nlohmann::json parameters;            ///< that make two jobs the same
  std::vector<NamedModel> inputs;       ///< another one, or a changed one, makes another job
  std::vector<Place> places;            ///< one or more outputs, all like the next one:
  const Checkpoint* like = nullptr;     ///< whole on rank 0
  const Checkpoint* leading = nullptr;  ///< model whose tensors give records their names
  bool overwrite = false;
  std::uint64_t disk = 0;                                         ///< bytes that each output needs
  std::function<std::uint64_t(const Item&)> moves = bytes_moved;  ///< bytes that an item reads and writes
};

/// The life of a task whose outputs have a journal: they are opened, or an unfinished run is gone on with;
/// the items of the plan are worked on; the outputs get their names, all or none. The first output's journal
/// holds the records of all of them.
class JournaledTask {
 public:
  /// `outputs`: its tables outlive this object.
  JournaledTask(const Comm& comm, const Log& log, JournaledOutputs outputs, Plan plan, Resources resources,
                RunOptions run);

  /// Opens the outputs and looks at what is finished of them. False if all of it was. Collective.
  bool begin();
  /// The outputs as they are to be written, by number; on every rank.
  const std::vector<Checkpoint>& tables() const { return tables_; }
  /// This rank's journal.
  Journal& journal() { return *journal_; }
  std::uint64_t memory() const { return *resources_.memory; }

  /// Does what the plan says: items of all ranks first, if `together` is given, then this rank's own. What is
  /// wrong with the data ends all ranks in good order, and is told by conclude(). Collective.
  void work(LocalSteps& alone, GridSteps* together);

  /// To be called when this rank has closed all files of the outputs: on NFS an open file that is removed
  /// stays in its folder. What is wrong with the data is thrown by all as SharedError, and outputs that
  /// cannot be finished are thrown away; other failures leave them to be resumed. If all is done, calls
  /// `finish` on rank 0, which checks it and makes a report for each output, writes the reports, and gives
  /// the outputs their names. Collective.
  using Finish = std::function<std::vector<Report>(std::vector<Record> records, const RunTotals& totals)>;
  ExitCode conclude(const Finish& finish);

 private:
  bool open();
  void open_on_root();
  void throw_away();
  void write_report(std::size_t i, Report& report);
  void tell_of_idle_run() const;

  Comm comm_;
  Log log_;
  Timer start_;
  JournaledOutputs asked_;
  Plan plan_;
  Resources resources_;
  RunOptions run_options_;
  nlohmann::json identity_;        ///< on rank 0
  std::vector<Output> outputs_;    ///< on rank 0
  std::vector<OutputLock> locks_;  ///< on the others
  std::vector<Checkpoint> tables_;
  std::optional<Journal> journal_;
  int run_ = 1;  ///< of these outputs
  bool resumed_ = false;
  std::vector<Record> finished_;  ///< by earlier runs
  Counts total_;
  Counts earlier_;
  ItemsDone done_;  ///< by this run and rank
};

/// The state in which JournaledTask::begin() would find the first output, and the room for what is still to
/// be made; throws what it would throw, but for room. Touches nothing. For one process.
Planned foresee(const JournaledOutputs& outputs);

/// Throws Error(io) if a file could not be written into the folder of the report: better now than after
/// hours.
void check_report_folder(const fs::path& report);

}  // namespace lox
