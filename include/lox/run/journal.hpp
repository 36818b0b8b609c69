// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/run/record.hpp"

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// What is finished of an output: in its journal's folder (io/output) the files
///   rank-00000.jsonl    one line a finished item, appended by that rank after the item's bytes were synced
/// An item counts when its line is on disk. Lines may come in any order and from any number of ranks; a line
/// that is not whole is not there.
class Journal {
 public:
  /// Opens this rank's file for appending. What a kill left of an unfinished line is cut off.
  Journal(const fs::path& directory, int rank);
  /// On disk when it returns. All at once, so that many small records cost one sync.
  void append(const std::vector<Record>& records);

  /// The records of all ranks so far, later lines last.
  static std::vector<Record> load(const fs::path& directory);
  /// The records in one rank's text. What is not a record is skipped.
  static std::vector<Record> parse(const std::string& text);

 private:
  File file_;
};

}  // namespace lox
