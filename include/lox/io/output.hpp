// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/io/lock.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// Where an output and what belongs to it lie.
struct OutputPaths {
  explicit OutputPaths(const fs::path& path);
  fs::path sign() const {
    return journal / "job.json";
  }  ///< what is being done; the output's skeleton is whole
  fs::path lock() const { return journal / "lock"; }
  fs::path output;   ///< without a slash at its end
  fs::path partial;  ///< "<output>.partial": it grows here until it is whole
  fs::path journal;  ///< "<output>.journal": what of it is finished, and who is at work on it
};

/// What an output may replace, and what it must not touch.
struct OutputRules {
  bool overwrite = false;  ///< a finished output, or an unfinished one of another job, may be thrown away
  std::vector<fs::path> inputs;  ///< neither one of them nor inside one, and none inside it
};

/// Throws Error(bad_input) unless `output` may be written: its folder exists and is writable, it does not
/// exist itself (or may be replaced and looks like a model), and it is apart from the inputs.
void check_output(const fs::path& output, const OutputRules& rules);

/// Throws Error(io) if the file system of `output` has not the room that `bytes` more need.
void check_space(const fs::path& output, std::uint64_t bytes);

/// The life of an output, on rank 0. It grows as "<output>.partial", at its final size from the first moment,
/// and gets its name when it is whole:
///
///     create ----------------> publish          a run that was killed is done again from the start
///     open -> (killed, open) -> publish -> close   its journal says what is finished
///        \____________________\-> discard
class Output {
 public:
  enum class State { fresh, resumed, published };

  /// A new one with the tensors and other files of `like`, whose bytes are still to be written. If it is
  /// not published, it goes when this object does.
  static Output create(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                       Space space = Space::reserved);

  /// One with a journal: goes on with an unfinished output of the same `identity`, or makes a new one, its
  /// other files copied from `like`. `notes` lie beside the identity, for `lox status`. Throws
  /// Error(bad_input) if another job is at work on it, or if the unfinished one has another identity, naming
  /// the difference. What is unfinished stays when this object goes.
  static Output open(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                     const nlohmann::json& identity, const nlohmann::json& notes);

  Output(Output&& other) noexcept;
  Output& operator=(Output&& other) noexcept;
  ~Output();

  /// `published`: an earlier run got as far as the name; only close() is left to do.
  State state() const { return state_; }
  const OutputPaths& paths() const { return paths_; }
  /// The partial; tensors and other files in the order of `like`.
  const Checkpoint& table() const { return table_; }

  /// Gives the partial its name, durably. What stood there is moved aside first and removed after.
  void publish();
  /// Removes the journal: there is nothing to go on with.
  void close();
  /// Removes the partial and the journal.
  void discard();

 private:
  explicit Output(const fs::path& path) : paths_(path) {}
  OutputPaths paths_;
  State state_ = State::fresh;
  Checkpoint table_;
  std::unique_ptr<OutputLock> lock_;
  bool temporary_ = false;  ///< to be removed with this object
};

/// The identity of an unfinished output; nothing if there is none.
std::optional<nlohmann::json> unfinished_identity(const fs::path& output);

/// What is known of an output from outside.
struct OutputStatus {
  enum class State { absent, unfinished, finished };
  State state = State::absent;
  nlohmann::json notes;  ///< of an unfinished one
  std::string holder;    ///< the job at work on it, if one is
};
OutputStatus output_status(const fs::path& output);

}  // namespace lox
