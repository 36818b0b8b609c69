// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/lock.hpp"
#include "lox/io/output_place.hpp"

#include <memory>
#include <string>

#include <nlohmann/json.hpp>

namespace lox {

/// The life of an output that is one JSON text, on rank 0. While it is worked on, its journal says what is
/// finished; at the end the text is made of that and put in place at once.
///
///     open -> (killed, open) -> finish
///        \____________________\-> discard
///
/// The text tells by a fingerprint which job it is of ("proof"): a run that ends after it has been put in
/// place leaves the next one of the same job only the journal to remove.
class TextOutput {
 public:
  enum class State { fresh, resumed, finished };

  /// Takes the lock. Throws Error(bad_input) if another job is at work on it, if an unfinished one has
  /// another `identity`, naming the difference, or if a file is in its place that is not this job's; with
  /// rules.overwrite those are thrown away, but for files that are no texts of lox. `notes` lie beside the
  /// identity, for `lox status`.
  TextOutput(const fs::path& path, const OutputRules& rules, const nlohmann::json& identity,
             const nlohmann::json& notes);

  /// The state in which the constructor would find it; throws what that would throw. Touches nothing.
  static State foresee(const fs::path& path, const OutputRules& rules, const nlohmann::json& identity);

  State state() const { return state_; }
  const OutputPaths& paths() const { return paths_; }
  const OutputLock& lock() const { return *lock_; }
  /// What is there, where it is finished.
  const nlohmann::ordered_json& text() const { return text_; }

  /// Puts the text in place, and removes the journal, of which no other rank may have a file open. Of a
  /// finished one only that.
  void finish(nlohmann::ordered_json text = {});
  /// Removes the journal.
  void discard();

 private:
  TextOutput(const fs::path& path, const nlohmann::json& identity);
  void look(const OutputRules& rules, const nlohmann::json& identity);
  void begin_anew(const nlohmann::json& identity, const nlohmann::json& notes);
  void leave();

  OutputPaths paths_;
  std::string fingerprint_;
  State state_ = State::fresh;
  bool made_journal_ = false;
  std::unique_ptr<OutputLock> lock_;
  nlohmann::ordered_json text_;
};

/// What a finished text of lox says; null if something else, or nothing, is there.
nlohmann::ordered_json read_text_output(const fs::path& path);

}  // namespace lox
