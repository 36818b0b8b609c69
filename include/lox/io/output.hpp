// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/anchor.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/io/lock.hpp"
#include "lox/io/output_place.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// The life of an output, on rank 0. It grows as "<output>.partial", at its final size from the first moment,
/// and gets its name when it is whole. Its lock is held as long as this object lives.
///
///     create ----------------> publish -> close   a run that was killed is done again from the start
///     open -> (killed, open) -> publish -> close   its journal says what is finished
///        \____________________\-> discard
///
/// publish() writes down first that all is there ("whole"), and close() removes that last: what a run leaves
/// that ends in between, the next one of the same job only gives its name.
class Output {
 public:
  enum class State { fresh, resumed, published };

  /// Whether something else than the sign tells that the output which stands there is this job's.
  using Vouch = std::function<bool()>;

  /// A new one with the tensors and other files of `like`, whose bytes are still to be written; if it is
  /// not published, it goes when this object does. Or, `resumed`, a whole one that an earlier run of the same
  /// `identity` could not give its name: only finish() is left to do. `identity` names its "task".
  static Output create(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                       const nlohmann::json& identity, Space space = Space::reserved);

  /// One with a journal: goes on with an unfinished output of the same `identity`, or makes a new
  /// one, its other files copied from `like`. `notes` lie beside the identity, for `lox status`. Throws
  /// Error(bad_input) if another job is at work on it, or if the unfinished one has another identity, naming
  /// the difference. What is unfinished stays when this object goes. `vouched` is asked of an output without
  /// a journal, which may be this job's.
  static Output open(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                     const nlohmann::json& identity, const nlohmann::json& notes,
                     const Vouch& vouched = nullptr);

  /// The state in which open() would find the output; throws what it would throw. Touches nothing.
  static State foresee(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                       const nlohmann::json& identity, const Vouch& vouched = nullptr);

  /// The lock for the ranks that have no Output: as long as one of them lives, no other job gets at the
  /// output. On rank 0 `output` is given and nothing is returned. Collective.
  static std::optional<OutputLock> join(const Comm& comm, const fs::path& path, const Output* output);

  Output(Output&& other) noexcept;
  Output& operator=(Output&& other) noexcept;
  ~Output();

  /// `published`: an earlier run got as far as the name; only finish() is left to do.
  State state() const { return state_; }
  const OutputPaths& paths() const { return paths_; }
  /// The partial; tensors and other files in the order of `like`.
  const Checkpoint& table() const { return table_; }

  /// Writes a file beside the others of a folder that has not got its name yet.
  void put(const std::string& name, std::string_view text);
  /// Gives the partial its name, durably. What stands there goes only if --overwrite named it when the output
  /// was opened. Throws Error(bad_input) if something else has come in between: that stays, and so does the
  /// partial.
  void publish();
  /// Removes the journal: there is nothing to go on with. No other rank may have a file of it open.
  void close();
  /// What is left to do of publish() and close().
  void finish();
  /// Removes the partial and the journal, of which no other rank may have a file open.
  void discard();

 private:
  explicit Output(const fs::path& path) : paths_(path) {}
  void enter(const OutputRules& rules);
  void look(const OutputRules& rules, const Checkpoint& like, const nlohmann::json& identity, bool goes_on,
            const Vouch& vouched);
  void check_place(const OutputRules& rules);
  void make(const Checkpoint& like, const nlohmann::json& identity, const nlohmann::json& notes, Space space);
  template <class Check>
  void refuse_or(Check check);
  void leave();
  void check_partial() const;
  void remove_sign();
  void restore_replaced();
  void set_aside();
  [[noreturn]] void refuse_what_came();

  OutputPaths paths_;
  State state_ = State::fresh;
  nlohmann::json sign_;
  Checkpoint table_;
  std::unique_ptr<OutputLock> lock_;
  std::optional<Anchor> partial_;
  std::optional<Anchor> named_;  ///< what --overwrite may take away
  bool made_journal_ = false;
  bool temporary_ = false;  ///< to be removed with this object
};

/// Makes the journal's folder, if need be, and takes its lock: `made` tells if it was not there.
std::unique_ptr<OutputLock> lock_journal(const OutputPaths& paths, bool& made);

/// What a journal says of its job: its sign; empty if there is none or it says nothing.
nlohmann::json make_sign(const nlohmann::json& identity, const nlohmann::json& notes);
nlohmann::json read_sign(const OutputPaths& paths);
/// How a job's identity differs from what a sign says, as a sentence; empty if it does not.
std::string difference_from_sign(const nlohmann::json& identity, const nlohmann::json& sign);

/// The identity of an unfinished output; nothing if there is none.
std::optional<nlohmann::json> unfinished_identity(const fs::path& output);

/// What is known of an output from outside.
struct OutputStatus {
  enum class State { absent, unfinished, there };  ///< there: whose it is, its report says
  State state = State::absent;
  nlohmann::json notes;  ///< of an unfinished one
  std::string holder;    ///< the job at work on it, if one is
};
OutputStatus output_status(const fs::path& output);

}  // namespace lox
