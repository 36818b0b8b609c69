// SPDX-License-Identifier: MIT
#include "lox/task/reference_ties.hpp"

#include "lox/base/random.hpp"
#include "lox/task/reference_svd.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include <fmt/format.h>

namespace lox {
namespace {

constexpr Index rows_at_once = 256;
constexpr int starts = 4;  // of the search: from what the output shows, then from noise beside it
constexpr double relaxed = 1.9;
constexpr double near = 0.1;              // of the tied part's norm
constexpr int patience = 50;              // steps in which the excess must fall to half
constexpr int most_steps = 300;           // of a search; ties of hundreds need a hundred
constexpr double most_operations = 2e12;  // of all searches: a minute or two

/// What a pass over all entries finds for an X.
struct Pass {
  Small pull;             ///< u^T E v, where E is by how much entries are further off than they may be
  double excess = 0;      ///< |E|^2
  double separation = 0;  ///< <E, what is off> - sum |E| * what may be off + coef <X, pull>
  Index wrong = 0;        ///< entries with E != 0
  bool finite = true;
};

/// Searches among the right edits. Both the output's rounding, |W_out - W - edit| <= half a unit and slack,
/// and the set of edits are known, so each step either ends with an edit that explains every entry, or with a
/// direction E in which the output is further away than any right edit reaches, or goes on to a better edit.
class Search {
 public:
  Search(const EditedMatrix& matrix, const TiedEdit& edit, double slack)
      : matrix_(matrix),
        edit_(edit),
        slack_(slack),
        // How far u X v^T may be off where X mixes triplets that are not quite equal, by Cauchy and Schwarz.
        row_spread_(edit.coef * (edit.sigma.maxCoeff() - edit.sigma.minCoeff()) * edit.u.rowwise().norm()),
        col_norm_(edit.v.rowwise().norm()) {}

  /// u^T (W_out - W - certain edit) v / coef: X plus rounding, which is right to `blur`. Counts the entries
  /// that show an edit.
  Small measure(double& blur, Index& changed);
  Pass pass(const Small& x) const;
  /// The X of a right edit closest to a matrix.
  Small nearest(const Small& to) const;
  /// The most that coef <X, pull> can be for any right X.
  double reach(const Small& pull) const;

 private:
  Index tied() const { return edit_.sigma.size(); }
  RowsInDouble off(const Small& x, Index first, Index count, const RowsInDouble& moved) const {
    RowsInDouble rows = moved;
    if (edit_.left.cols() > 0) {
      rows.noalias() -= edit_.coef * edit_.left.middleRows(first, count) * edit_.right.transpose();
    }
    if (x.size() > 0)
      rows.noalias() -= edit_.coef * (edit_.u.middleRows(first, count) * x) * edit_.v.transpose();
    return rows;
  }

  const EditedMatrix& matrix_;
  const TiedEdit& edit_;
  double slack_;
  Eigen::VectorXd row_spread_;
  Eigen::VectorXd col_norm_;
};

Small Search::measure(double& blur, Index& changed) {
  Small x = Small::Zero(tied(), tied());
  double squares = 0;
  for (Index first = 0; first < matrix_.rows; first += rows_at_once) {
    const Index count = std::min(rows_at_once, matrix_.rows - first);
    const RowsInDouble hardened = matrix_.hardened_rows(first, count);
    const RowsInDouble moved = hardened - matrix_.aligned_rows(first, count);
    changed += (moved.array() != 0).count();
    const RowsInDouble rows = off({}, first, count, moved);
    x.noalias() += edit_.u.middleRows(first, count).transpose() * (rows * edit_.v) / edit_.coef;
    for (Index i = 0; i < hardened.size(); ++i) {
      squares += std::pow(ulp(matrix_.dtype, hardened.data()[i]), 2) / 12;
    }
  }
  const double rms = std::sqrt(squares / static_cast<double>(matrix_.rows * matrix_.cols));
  blur = rms * (2 * std::sqrt(static_cast<double>(tied())) + 6) / edit_.coef;  // the norm of a random matrix
  return x;
}

Pass Search::pass(const Small& x) const {
  Pass result;
  result.pull = Small::Zero(tied(), tied());
  for (Index first = 0; first < matrix_.rows; first += rows_at_once) {
    const Index count = std::min(rows_at_once, matrix_.rows - first);
    const RowsInDouble aligned = matrix_.aligned_rows(first, count);
    const RowsInDouble hardened = matrix_.hardened_rows(first, count);
    RowsInDouble rows = off(x, first, count, hardened - aligned);
    result.finite = result.finite && hardened.allFinite();
    if (!result.finite) return result;
    for (Index i = 0; i < count; ++i) {
      for (Index j = 0; j < matrix_.cols; ++j) {
        const double unit = ulp(matrix_.dtype, hardened(i, j));
        const double arithmetic =
            arithmetic_noise(matrix_.dtype, aligned(i, j), hardened(i, j) - aligned(i, j));
        const double allowed = unit / 2 + slack_ + arithmetic + row_spread_[first + i] * col_norm_[j];
        const double distance = std::abs(rows(i, j));
        if (distance <= allowed) {
          rows(i, j) = 0;
          continue;
        }
        const double beyond = distance - allowed;
        ++result.wrong;
        result.excess += beyond * beyond;
        rows(i, j) = std::copysign(beyond, rows(i, j));
      }
    }
    result.pull.noalias() += edit_.u.middleRows(first, count).transpose() * (rows * edit_.v);
  }
  result.pull = (0.5 * (result.pull + result.pull.transpose())).eval();  // X is symmetric
  result.separation = result.excess + edit_.coef * x.cwiseProduct(result.pull).sum();
  return result;
}

Small Search::nearest(const Small& to) const {
  const Small chosen = reference_eigen(0.5 * (to + to.transpose()), edit_.chosen).vectors;
  return chosen * (chosen.transpose() * edit_.sigma.asDiagonal() * chosen) * chosen.transpose();
}

double Search::reach(const Small& pull) const {
  const Eigen::VectorXd values = reference_eigen(pull, 0).values;
  double most = 0;
  for (const double value : values.head(edit_.chosen)) {
    most += value * (value > 0 ? edit_.sigma.maxCoeff() : edit_.sigma.minCoeff());
  }
  return edit_.coef * most;
}

/// A matrix of normal numbers.
Small noise(Index size, std::uint64_t key) {
  Small matrix(size, size);
  for (Index i = 0; i < matrix.size(); ++i) {
    matrix.data()[i] = static_cast<double>(normal_at(key, static_cast<std::uint64_t>(i)));
  }
  return matrix;
}

}  // namespace

Judgement judge_ties(const EditedMatrix& matrix, const TiedEdit& edit, double slack) {
  Judgement judgement;
  judgement.kind = Judgement::Kind::tied;
  judgement.tied = edit.sigma.size();
  judgement.chosen = edit.chosen;
  Search search(matrix, edit, slack);
  double blur = 0;
  Index changed = 0;
  const Small seen = search.measure(blur, changed);
  judgement.loose = edit.chosen * (judgement.tied - edit.chosen) > changed;
  if (!seen.allFinite()) {
    judgement.fault = "holds NaN or Inf";
    return judgement;
  }
  const auto tied = static_cast<double>(judgement.tied);
  const double operations = static_cast<double>(matrix.rows) * static_cast<double>(matrix.cols) *
                                (2 * static_cast<double>(edit.left.cols()) + 4 * tied) +
                            20 * tied * tied * tied;
  const int steps = std::clamp(static_cast<int>(most_operations / operations), 4, most_steps);
  // Does the output show the choice through its rounding? Then the search begins beside it.
  const bool shown = edit.sigma.minCoeff() > 3 * blur;
  Pass best;
  const auto complain = [&](std::string_view verb) {
    return fmt::format("no choice among {} equal singular values {}: at best {} of {} entries are wrong",
                       judgement.tied, verb, best.wrong, matrix.rows * matrix.cols);
  };
  for (int start = 0; start < (shown ? 1 : starts); ++start) {
    Small x = search.nearest(
        start == 0 ? seen : seen + blur * noise(judgement.tied, static_cast<std::uint64_t>(start)));
    Small before = x;
    double momentum = 0;
    double last = std::numeric_limits<double>::infinity();
    double landmark = last;
    for (int step = 0; step < steps; ++step) {
      const Pass found = search.pass(x);
      if (!found.finite) {
        judgement.fault = "holds NaN or Inf";
        return judgement;
      }
      if (found.wrong == 0) return judgement;
      if (best.wrong == 0 || found.excess < best.excess) best = found;
      if (found.separation > search.reach(found.pull) * (1 + 1e-12)) {
        judgement.fault = complain("gives it");
        return judgement;
      }
      if (step % patience == patience - 1) {
        if (found.excess > landmark / 2) break;
        landmark = found.excess;
      }
      // Onto the half-space that E leaves open, and on in the direction of the last step while that helps.
      momentum = found.excess < last ? momentum + 1 : 0;
      last = found.excess;
      const double length = relaxed * found.excess / (edit.coef * found.pull.squaredNorm());
      const Small ahead = x + length * found.pull + momentum / (momentum + 3) * (x - before);
      before = x;
      x = search.nearest(ahead);
    }
  }
  // Left open where the search was cut short, or rounding hides the choice from the start; but near it must
  // be.
  const double norm = edit.coef * edit.sigma.head(edit.chosen).norm();
  judgement.undecided = (!shown || steps < most_steps) && std::sqrt(best.excess) <= near * norm;
  if (!judgement.undecided) judgement.fault = complain("was found that gives it");
  return judgement;
}

}  // namespace lox
