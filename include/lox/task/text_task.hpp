// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/timer.hpp"
#include "lox/io/text_output.hpp"
#include "lox/report/report.hpp"
#include "lox/task/do_items.hpp"
#include "lox/task/planned.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace lox {

/// What a task finds out, and of what.
struct TextAsked {
  std::string task;
  nlohmann::json parameters;       ///< that make two jobs the same
  std::vector<NamedModel> inputs;  ///< another one, or a changed one, makes another job
  fs::path output;
  bool overwrite = false;
  std::function<std::uint64_t(const Item&)> moves;  ///< bytes that an item reads
};

/// The life of a task whose only output is one JSON text (io/text_output), made of its records. The first
/// input is the model whose tensors give records their names.
class TextTask {
 public:
  /// The state in which begin() would find the text; throws what it would throw. Touches nothing. For one
  /// process.
  static Planned foresee(const TextAsked& asked);

  TextTask(const Comm& comm, const Log& log, TextAsked asked, Plan plan, Resources resources);

  /// Takes the output's lock and looks at what is finished. False if all of it was: then the text is there.
  /// Collective.
  bool begin();
  /// This rank's journal.
  Journal& journal() { return *journal_; }
  std::uint64_t memory() const { return *resources_.memory; }
  /// Does what the plan says. What is wrong with the data is told by conclude(). Collective.
  void work(LocalSteps& alone, GridSteps* together);

  /// What is wrong with the data is thrown by all as SharedError; then the journal goes, unless it holds the
  /// work of earlier runs. If all is done, calls `make` on rank 0, and puts its text in place. Collective.
  using Make = std::function<nlohmann::ordered_json(std::vector<Record> records, const RunTotals& totals)>;
  ExitCode conclude(const Make& make);

  /// The text, on rank 0, once it is finished.
  const nlohmann::ordered_json& text() const { return output_->text(); }

 private:
  void throw_away();

  Comm comm_;
  Log log_;
  Timer start_;
  TextAsked asked_;
  Plan plan_;
  Resources resources_;
  nlohmann::json identity_;           ///< on rank 0
  std::optional<TextOutput> output_;  ///< on rank 0
  std::optional<OutputLock> lock_;    ///< on the others
  std::optional<Journal> journal_;
  std::vector<Record> finished_;  ///< by earlier runs
  Counts total_;
  Counts earlier_;
  ItemsDone done_;
};

}  // namespace lox
