// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/run/record.hpp"

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// Reads the edges that wait in a journal.
class EdgeReader {
 public:
  explicit EdgeReader(fs::path directory) : directory_(std::move(directory)) {}
  /// The bytes of an edge. Throws Error(io) if they are not there or not what was written.
  std::vector<std::byte> read(const Edge& edge);

 private:
  fs::path directory_;
  std::map<std::pair<int, int>, File> files_;  ///< open ones, by run and rank: records of all ranks are mixed
};

/// What is finished of an output: files in its journal's folder (io/output_place), two for every rank of
/// every run.
///
///     rank-00000.jsonl        of the first run: one line a finished item, once the item's bytes are synced
///     rank-00000.edges        the edges of these items (io/pages), one behind the other
///     rank-00000.0002.jsonl   of the second run ...
///
/// An item counts when its line is on disk. Lines may come in any order and from any number of ranks; a line
/// that is not whole is not there. No run goes on with the files of an earlier one: another node may hold old
/// pages of them.
class Journal {
 public:
  /// Makes this rank's files. `run`: next_run() of this folder.
  Journal(const fs::path& directory, int run, int rank);
  /// On disk when it returns, the records' waiting edges included. All at once, so that many small records
  /// cost one sync.
  void append(std::span<Record> records);
  /// The waiting edges alone, for records that another rank will append. On disk when it returns.
  void keep_edges(std::span<Record> records);

  /// The number for a run that begins, from 1.
  static int next_run(const fs::path& directory);
  /// How many of the last runs have finished nothing.
  static int idle_runs(const fs::path& directory);
  /// The records of all ranks so far, later runs last; only those whose edges are there.
  static std::vector<Record> load(const fs::path& directory);
  /// The records in one rank's text. What is not a record is skipped.
  static std::vector<Record> parse(const std::string& text);

 private:
  int run_;
  int rank_;
  File lines_;
  File edges_;
  std::uint64_t edges_end_ = 0;
};

}  // namespace lox
