// SPDX-License-Identifier: MIT
#pragma once
#include "lox/report/report.hpp"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// What an analysis was asked for.
struct AnalysisAsked {
  nlohmann::ordered_json job;      ///< parameters and paths, by option names
  std::vector<Index> k;            ///< rising
  std::vector<std::string> tuned;  ///< paths of the tuned models
  bool angles = false;
};

/// Whether the paper's mean leaves a tensor of this name out: it goes over linear layers, of which an
/// embedding is none.
bool is_embedding(const std::string& name);

/// The analysis of a model as JSON (docs/analysis.md): every tensor that has records, in the model's order,
/// and totals. Tensors of more than two dimensions are told as one block-diagonal matrix, and matrix by
/// matrix.
nlohmann::ordered_json analysis_report(const AnalysisAsked& asked, const Checkpoint& model,
                                       const std::vector<Record>& records, const RunTotals& run);

/// Whether a text is an analysis, not a report.
bool is_analysis(const nlohmann::ordered_json& text);
/// Its totals as a table: a row for each k. Throws nlohmann::json::exception if it is no analysis of lox.
std::string analysis_table(const nlohmann::ordered_json& analysis);

}  // namespace lox
