// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/checksum.hpp"
#include "lox/plan/plan.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// Checksum (XXH3, 64 bits) of output bytes [first, first + bytes) of a tensor.
struct Piece {
  std::uint64_t first = 0;
  std::uint64_t bytes = 0;
  std::uint64_t xxh3 = 0;
};

/// What became of one work item: a line of the journal, an entry of the report.
struct TensorRecord {
  std::string name;
  std::int64_t matrix = 0;  ///< which one of the tensor's batch
  Action action = Action::copy;
  Method method = Method::krylov;
  Where where = Where::local;
  std::int64_t k = 0;  ///< min(k, rows, cols), of full rank min(rows, cols); 0: not a matrix, or not selected
  std::vector<double> sigma;  ///< s_1 .. s_k
  Certificate certificate;
  Missed missed;
  bool settled = true;  ///< the error of Delta_k is below what rounding shows; it is not where s_k = s_k+1
  int iterations = 0;
  double delta_norm = 0;    ///< |Delta|_F
  double edit_norm = 0;     ///< coef * |Delta_k|_F
  double realised_dot = 0;  ///< <W_out - W_aligned, edit>
  std::int64_t entries = 0;
  std::int64_t changed = 0;  ///< entries that differ from the aligned ones
  double seconds_read = 0;
  double seconds_svd = 0;
  double seconds_write = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::vector<Piece> pieces;  ///< of the output, covering the item
};

nlohmann::json pieces_to_json(const std::vector<Piece>& pieces);
/// Throws nlohmann::json::exception if the text is something else.
std::vector<Piece> pieces_from_json(const nlohmann::json& json);

nlohmann::json record_to_json(const TensorRecord& record);
/// Throws nlohmann::json::exception or Error(bad_input) if the text is not a record.
TensorRecord record_from_json(const nlohmann::json& json);

}  // namespace lox
