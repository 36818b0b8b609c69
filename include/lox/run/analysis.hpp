// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/matrix.hpp"

#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace lox {

/// What is found of a tuned model T beside a matrix' Delta. Lists have an entry for each k that was asked
/// for; they are empty where the number has no meaning: shares where Delta or T - base is zero, angles where
/// nobody asked for them.
struct TunedMatrix {
  double delta_norm = 0;                         ///< |T - base|_F
  std::vector<double> share;                     ///< |U_k^T (T - base)|_F / |T - base|_F: the paper's R_ft
  std::vector<double> overlap_left;              ///< of U_k with that of T - base (linalg/subspace)
  std::vector<double> overlap_right;             ///< of V_k
  std::vector<std::vector<double>> angles_left;  ///< principal angles in radians
  std::vector<std::vector<double>> angles_right;
};

/// What analyze finds of a matrix, beside its spectrum.
struct Analysis {
  double weight_norm = 0;  ///< |aligned|_F
  std::vector<TunedMatrix> tuned;
};

nlohmann::json analysis_to_json(const Analysis& analysis);
/// Throws nlohmann::json::exception if the text is something else.
Analysis analysis_from_json(const nlohmann::json& json);

}  // namespace lox
