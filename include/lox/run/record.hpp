// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/checksum.hpp"
#include "lox/plan/item.hpp"
#include "lox/run/analysis.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// Which item a record is of.
struct RecordKey {
  std::string name;
  std::int64_t matrix = 0;  ///< which one of the tensor's batch
  Action action = Action::copy;
  std::int64_t entries = 0;
  std::int64_t row = 0;  ///< the first one, if the item is a stretch of rows
};

/// What was found of a matrix' Delta.
struct Spectrum {
  Where where = Where::local;
  Method method = Method::krylov;
  std::int64_t k = 0;  ///< min(k, rows, cols), of full rank min(rows, cols); 0: not a matrix, or not selected
  std::vector<double> sigma;  ///< s_1 .. s_k
  Certificate certificate;
  Missed missed;
  bool settled = true;  ///< the error of Delta_k is below what rounding shows; it is not where s_k = s_k+1
  int iterations = 0;
  double delta_norm = 0;  ///< |Delta|_F
  /// What of Delta is rounding of FP8 models, by estimate, as |.|_F; nothing: neither is quantised.
  std::optional<double> quantisation_noise;
  std::vector<double> residuals;  ///< of each triplet, over its singular value; where they are kept
  std::vector<Unsettled> open;    ///< k' < k whose Delta_k' is not settled; where triplets are kept
};

/// What became of a matrix in one target.
struct Edit {
  double norm = 0;           ///< coef * |Delta_k|_F
  double realised_dot = 0;   ///< <W_out - W_aligned, edit>
  std::int64_t changed = 0;  ///< entries that differ from the aligned ones

  void add(const Edit& other);  ///< of other rows
};

struct Timing {
  double read = 0;  ///< seconds
  double svd = 0;
  double write = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;

  void add(const Timing& other);
};

/// Checksum (XXH3, 64 bits) of bytes [first, first + bytes) of a tensor of a target's table.
struct Piece {
  int target = 0;
  int tensor = 0;
  std::uint64_t first = 0;
  std::uint64_t bytes = 0;
  std::uint64_t xxh3 = 0;
};

/// Bytes of a piece that share a page of the target's file with something else (io/pages). They wait in a
/// file of the journal, `run` and `rank` being part of its name, until rank 0 puts all of them in place.
struct Edge {
  int target = 0;
  int tensor = 0;
  std::uint64_t first = 0;  ///< in the tensor
  std::uint64_t bytes = 0;
  std::uint64_t xxh3 = 0;
  int run = 0;
  int rank = 0;
  std::uint64_t at = 0;          ///< where in that file
  std::vector<std::byte> waits;  ///< the bytes themselves, until they are in the file
};

/// What became of one work item: a line of the journal, a part of the report.
struct Record {
  RecordKey key;
  Spectrum spectrum;
  std::vector<Edit> edits;      ///< by target; none if nothing was edited
  Content aligned;              ///< what these rows of the aligned model hold; where factors come or go
  std::optional<Content> base;  ///< the same of the base; where factors are made
  Timing timing;
  std::optional<Analysis> analysis;  ///< of lox analyze
  std::vector<double> products;      ///< scalar products over these rows, of lox landscape
  std::vector<Piece> pieces;         ///< all that was written of the item, edges included
  std::vector<Edge> edges;
};

nlohmann::json pieces_to_json(const std::vector<Piece>& pieces);
/// Throws nlohmann::json::exception if the text is something else.
std::vector<Piece> pieces_from_json(const nlohmann::json& json);

nlohmann::json edges_to_json(const std::vector<Edge>& edges);
std::vector<Edge> edges_from_json(const nlohmann::json& json);

nlohmann::json record_to_json(const Record& record);
/// Throws nlohmann::json::exception or Error(bad_input) if the text is not a record.
Record record_from_json(const nlohmann::json& json);

/// One record a matrix: the sum of its stretches. `stretches`: sorted as latest() does.
std::vector<Record> join_stretches(const std::vector<Record>& stretches);

/// One record an item: the last that was written.
std::vector<Record> latest(std::vector<Record> records);

}  // namespace lox
