// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"

#include <cstdint>
#include <vector>

namespace lox {

/// Where an output and what belongs to it lie:
///
///     out             the output itself, once it is whole
///     out.partial     it grows here
///     out.journal/    lock            who is at work on it
///                     job.json        what is being done; written when the partial's skeleton is whole
///                     *.jsonl, *.edges  what of it is finished (run/journal)
///                     replaced        what --overwrite takes away, until the new output stands
struct OutputPaths {
  explicit OutputPaths(const fs::path& path);
  fs::path sign() const { return journal / "job.json"; }
  fs::path lock() const { return journal / "lock"; }
  fs::path replaced() const { return journal / "replaced"; }
  fs::path output;  ///< without a slash at its end
  fs::path partial;
  fs::path journal;
};

/// What an output may replace, and what it must not touch.
struct OutputRules {
  bool overwrite = false;  ///< a finished output, or an unfinished one of another job, may be thrown away
  std::vector<fs::path> inputs;  ///< neither one of them nor inside one, and none inside it
};

/// Whether something has this name, be it a link that leads nowhere.
bool is_there(const fs::path& path);

/// Throws Error(bad_input) unless `output` may lie where it is to: its folder exists and is writable, the
/// names of what belongs to it are not too long, it and its journal are apart from the inputs, and what has
/// the journal's name is a journal.
void check_output_place(const fs::path& output, const std::vector<fs::path>& inputs);

/// The same, and it does not exist itself, or may be replaced and looks like a model.
void check_output(const fs::path& output, const OutputRules& rules);

/// Bytes that an output needs where it lies.
struct Room {
  fs::path output;
  std::uint64_t bytes = 0;
};

/// Throws Error(io) if a file system has not the room that all outputs on it need together.
void check_space(const std::vector<Room>& outputs);

/// Removes what lox has put into a journal but for its lock and its sign, and nothing else.
void clear_journal(const OutputPaths& paths);

/// Removes a file or an empty folder, if it is there. Returns whether it was.
bool remove_file(const fs::path& path);

/// Throws Error(io) if it cannot be removed. A link is removed, not what it leads to.
void remove_tree(const fs::path& path);

}  // namespace lox
