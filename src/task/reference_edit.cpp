// SPDX-License-Identifier: MIT
#include "lox/task/reference_edit.hpp"

#include "lox/task/reference_svd.hpp"
#include "lox/task/reference_ties.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace lox {
namespace {

/// Singular values closer than this, relative to s_k, count as equal. A solver that works in float finds
/// vectors to about 1e-6 s_1 over their gap, so closer ones come out mixed.
constexpr double tie = 1e-3;
/// What an entry may be off beside rounding, as a share of the edit's rms: a solver's error.
constexpr double solver_share = 1e-3;
/// The same where there is nothing to solve: float32 arithmetic, of an SVD that forms Delta anew at most.
constexpr double arithmetic_share = 0x1p-20;
/// What a solver that works in float32 leaves in every entry, and at most in a single one, as shares of coef
/// times the rms of Delta: harden stops at an error of 1e-7 |Delta|.
constexpr double float_solver = 0x1p-22;
constexpr double float_solver_peak = 1e-5;
/// A triplet of the edit that is so many times what rounding can add to it must be in the output, to a share.
constexpr double loud = 10;
constexpr double missing = 0.05;
/// Of a unit in the last place at the rms weight: a solver's error in one entry that moves few of the
/// output's. harden aims at 1/4000 on average, and single entries have several times that.
constexpr double hidden = 1e-2;
constexpr double expected_wanted = 0.998;  // of the entries of a 16-bit tensor with a unique Delta_k
constexpr Index rows_at_once = 256;

RowsInDouble rows_of(std::span<const std::byte> bytes, DType dtype, Index cols, Index first, Index count) {
  RowsInDouble rows(count, cols);
  const std::size_t width = element_bytes(dtype);
  to_double(dtype, bytes.data() + static_cast<std::size_t>(first * cols) * width,
            static_cast<std::size_t>(count * cols), rows.data());
  return rows;
}

/// What each entry's edit must be, and how far it may be off beside rounding.
struct Expected {
  RowsInDouble edit;
  RowsInDouble slack;
};

/// Counts entries and remembers the worst.
class Entries {
 public:
  /// `exact`: the edit is no result of a solver, so where float32 holds it and the sum exactly nothing is
  /// free, not even at a tie of the rounding.
  /// `noise`: what every entry may be off beside rounding and still be as expected.
  Entries(DType dtype, bool exact, double noise) : dtype_(dtype), exact_(exact), noise_(noise) {}

  void add(double aligned, double edit, double hardened, double slack, Index row, Index col) {
    ++all_;
    const double expected = aligned + edit;
    const double off = std::abs((hardened - aligned) - edit);  // to less than a double's unit
    // The half unit on the side of the smaller one: right also where a power of two lies between them.
    const double rounding = ulp(dtype_, std::min(std::abs(hardened), std::abs(expected))) / 2;
    const double arithmetic = arithmetic_noise(dtype_, aligned, edit) + noise_;
    if (off <= rounding + arithmetic && !(exact_ && breaks_tie(edit, expected, hardened)))
      return;  // NaN: false
    ++unexpected_;
    if (off > rounding + arithmetic && off <= rounding + arithmetic + slack) return;
    ++wrong_;
    const double times = (off - rounding) / (arithmetic + slack);
    if (wrong_ > 1 && times <= worst_) return;
    worst_ = times;
    const int digits = dtype_ == DType::F64 ? 17 : 9;
    where_ =
        fmt::format("entry [{}, {}] is {:.{}g}, not {:.{}g}", row, col, hardened, digits, expected, digits);
  }

  double as_expected() const { return 1 - static_cast<double>(unexpected_) / static_cast<double>(all_); }

  std::string fault() const {
    if (wrong_ > 0) return fmt::format("{}; {} of {} entries are wrong", where_, wrong_, all_);
    // Two are forgiven: a small matrix has no thousandths.
    const double forgiven = (1 - expected_wanted) * static_cast<double>(all_) + 2;
    if (!exact_ && dtype_bits(dtype_) == 16 && static_cast<double>(unexpected_) > forgiven) {
      return fmt::format("only {:.3f}% of the entries are as expected", 100 * as_expected());
    }
    return "";
  }

 private:
  /// Is `hardened` not what an exact sum is rounded to?
  bool breaks_tie(double edit, double expected, double hardened) const {
    const auto is_float = [](double value) {
      return static_cast<double>(static_cast<float>(value)) == value;
    };
    if (!is_float(edit) || (dtype_ != DType::F64 && !is_float(expected))) return false;
    std::byte stored[sizeof(double)];
    double rounded = 0;
    from_double(dtype_, &expected, 1, stored);
    to_double(dtype_, stored, 1, &rounded);
    return rounded != hardened;
  }

  DType dtype_;
  bool exact_;
  double noise_;
  Index all_ = 0;
  Index unexpected_ = 0;
  Index wrong_ = 0;
  double worst_ = 0;
  std::string where_;
};

/// Every entry against expected(first row, rows).
template <class Expect>
void hold_against(const EditedMatrix& matrix, bool exact, double noise, Expect expected,
                  Judgement& judgement) {
  Entries entries(matrix.dtype, exact, noise);
  for (Index first = 0; first < matrix.rows; first += rows_at_once) {
    const Index count = std::min(rows_at_once, matrix.rows - first);
    const RowsInDouble aligned = matrix.aligned_rows(first, count);
    const RowsInDouble hardened = matrix.hardened_rows(first, count);
    const Expected wanted = expected(first, count);
    for (Index i = 0; i < count; ++i) {
      for (Index j = 0; j < matrix.cols; ++j) {
        entries.add(aligned(i, j), wanted.edit(i, j), hardened(i, j), wanted.slack(i, j), first + i, j);
      }
    }
  }
  judgement.as_expected = entries.as_expected();
  judgement.fault = entries.fault();
}

void hold_against_whole(const EditedMatrix& matrix, const RowMajorMatrix& delta, double coef, bool exact,
                        Judgement& judgement) {
  const double rms = coef * delta.cast<double>().norm() / std::sqrt(static_cast<double>(delta.size()));
  hold_against(
      matrix, exact, 0,
      [&](Index first, Index count) {
        return Expected{coef * delta.middleRows(first, count).cast<double>(),
                        RowsInDouble::Constant(count, matrix.cols, arithmetic_share * rms)};
      },
      judgement);
}

/// One unit in the last place at the rms of the aligned weights.
double typical_unit(const EditedMatrix& matrix) {
  double squares = 0;
  for (Index first = 0; first < matrix.rows; first += rows_at_once) {
    squares += matrix.aligned_rows(first, std::min(rows_at_once, matrix.rows - first)).squaredNorm();
  }
  return ulp(matrix.dtype, std::sqrt(squares / static_cast<double>(matrix.rows * matrix.cols)));
}

/// Triplets far below the largest are within the slack of large entries. Each must be in the output
/// nevertheless: u_i^T (W_out - W) v_i = coef s_i, but for rounding, which has half a unit at most.
std::string look_for_triplets(const EditedMatrix& matrix, const Small& u, const Small& v,
                              const Eigen::VectorXd& sigma, double coef) {
  Eigen::VectorXd found = Eigen::VectorXd::Zero(sigma.size());
  Eigen::VectorXd rounding = found;  // the most that it can add to a triplet
  const Small size = v.cwiseAbs();
  for (Index first = 0; first < matrix.rows; first += rows_at_once) {
    const Index count = std::min(rows_at_once, matrix.rows - first);
    const RowsInDouble hardened = matrix.hardened_rows(first, count);
    const RowsInDouble moved = hardened - matrix.aligned_rows(first, count);
    found += u.middleRows(first, count).cwiseProduct(moved * v).colwise().sum().transpose();
    const RowsInDouble half = hardened.unaryExpr([&](double value) { return ulp(matrix.dtype, value) / 2; });
    rounding += u.middleRows(first, count).cwiseAbs().cwiseProduct(half * size).colwise().sum().transpose();
  }
  for (Index i = 0; i < sigma.size(); ++i) {
    const double wanted = coef * sigma[i];
    if (wanted < loud * rounding[i] || std::abs(found[i] - wanted) <= missing * wanted + rounding[i])
      continue;
    return fmt::format("holds {:.3g} times singular triplet {} of the edit", found[i] / wanted, i + 1);
  }
  return "";
}

/// Against coef * u diag(sigma) v^T. A few large rows or entries must not excuse the others, so an entry's
/// slack goes by the rms of the edit in its row or its column, the smaller one, where that is below the whole
/// matrix's; but a solver has its noise, and may stop where rounding to 16 bits hides what it lacks.
void hold_against_unique(const EditedMatrix& matrix, const Small& u, const Small& v,
                         const Eigen::VectorXd& sigma, double of_delta, double coef, Judgement& judgement) {
  const Small left = coef * u * sigma.asDiagonal();
  const auto m = static_cast<double>(matrix.rows);
  const auto n = static_cast<double>(matrix.cols);
  const double rms = coef * sigma.norm() / std::sqrt(m * n);
  const double least = hidden * typical_unit(matrix);
  const double noise = float_solver_peak * of_delta;
  const Eigen::VectorXd of_rows = solver_share * left.rowwise().norm() / std::sqrt(n);
  const Eigen::VectorXd of_cols =
      solver_share * coef * (v * sigma.asDiagonal()).rowwise().norm() / std::sqrt(m);
  hold_against(
      matrix, false, float_solver * of_delta,
      [&](Index first, Index count) {
        Expected wanted{left.middleRows(first, count) * v.transpose(), RowsInDouble(count, matrix.cols)};
        for (Index i = 0; i < count; ++i) {
          wanted.slack.row(i) = of_cols.cwiseMin(of_rows[first + i])
                                    .cwiseMax(least)
                                    .cwiseMin(solver_share * rms)
                                    .cwiseMax(noise)
                                    .transpose();
        }
        return wanted;
      },
      judgement);
  if (judgement.fault.empty()) judgement.fault = look_for_triplets(matrix, u, v, sigma, coef);
}

}  // namespace

double arithmetic_noise(DType dtype, double aligned, double edit) {
  // A sum of products in float32 makes the edit. To a weight of 16 bits it is added in float32 too, before
  // the sum is rounded once more; to a wider one with the output's own rounding.
  const double of_sum = dtype_bits(dtype) == 16 ? 0x1p-23 * std::abs(aligned) : 0;
  return of_sum + 0x1p-20 * std::abs(edit) + 0x1p-147;
}

RowMajorMatrix reference_delta(const EditedMatrix& matrix) {
  RowMajorMatrix delta = RowMajorMatrix::Zero(matrix.rows, matrix.cols);
  for (Index first = 0; first < matrix.common; first += rows_at_once) {
    const Index count = std::min(rows_at_once, matrix.common - first);
    delta.middleRows(first, count) = (matrix.aligned_rows(first, count) -
                                      rows_of(matrix.base, matrix.base_dtype, matrix.cols, first, count))
                                         .cast<float>();
  }
  return delta;
}

RowsInDouble EditedMatrix::aligned_rows(Index first, Index count) const {
  return rows_of(aligned, aligned_dtype, cols, first, count);
}
RowsInDouble EditedMatrix::hardened_rows(Index first, Index count) const {
  return rows_of(hardened, dtype, cols, first, count);
}

Judgement judge_edit(const EditedMatrix& matrix, Index k, double coef) {
  Judgement judgement;
  const RowMajorMatrix delta = reference_delta(matrix);
  if (!delta.allFinite()) {
    judgement.fault =
        "the base or the aligned model holds NaN or Inf, or they differ too much: no edit is right";
    return judgement;
  }
  const bool nothing = coef == 0 || delta.isZero(0);
  if (nothing || k == 0 || k >= std::min(matrix.rows, matrix.cols)) {
    judgement.kind = nothing ? Judgement::Kind::none : Judgement::Kind::whole;
    // harden multiplies by coef in float32.
    const bool exact = k == 0 && static_cast<double>(static_cast<float>(coef)) == coef;
    hold_against_whole(matrix, delta, coef, nothing || exact, judgement);
    return judgement;
  }

  Index first_tied = 0;
  Index end_tied = 0;
  const ReferenceSvd svd = reference_svd(
      RowMajorView(delta.data(), delta.rows(), delta.cols()), k, [&](const Eigen::VectorXd& sigma) {
        const double middle = sigma[k - 1];
        first_tied = (sigma.array() > (1 + tie) * middle).count();
        end_tied = middle == 0 ? first_tied : (sigma.array() >= (1 - tie) * middle).count();
        return end_tied > k ? end_tied : k;
      });
  if (end_tied <= k) {
    const Eigen::VectorXd sigma = svd.sigma.head(svd.u.cols());
    const double of_delta = coef * svd.sigma.norm() / std::sqrt(static_cast<double>(delta.size()));
    hold_against_unique(matrix, svd.u, svd.v, sigma, of_delta, coef, judgement);
    return judgement;
  }
  const Index tied = end_tied - first_tied;
  const Eigen::VectorXd certain = svd.sigma.head(first_tied);
  const Eigen::VectorXd equal = svd.sigma.segment(first_tied, tied);
  TiedEdit edit{coef,
                svd.u.leftCols(first_tied) * certain.asDiagonal(),
                svd.v.leftCols(first_tied),
                svd.u.rightCols(tied),
                svd.v.rightCols(tied),
                equal,
                k - first_tied};
  const double of_tied = static_cast<double>(edit.chosen) * equal[0] * equal[0];
  // As above: what is far larger than the tied part must not excuse it.
  const double squared = of_tied + std::min(certain.squaredNorm(), 100 * of_tied);
  return judge_ties(matrix, edit,
                    solver_share * coef * std::sqrt(squared / static_cast<double>(delta.size())));
}

void hold_against_edit(const EditedMatrix& matrix, const RowsInDouble& edit, double share, double slack,
                       Judgement& judgement) {
  const Eigen::VectorXd of_rows = share * edit.rowwise().norm() / std::sqrt(static_cast<double>(matrix.cols));
  const Eigen::RowVectorXd of_cols =
      share * edit.colwise().norm() / std::sqrt(static_cast<double>(matrix.rows));
  hold_against(
      matrix, edit.isZero(0), 0,
      [&](Index first, Index rows) {
        Expected wanted{edit.middleRows(first, rows), RowsInDouble(rows, matrix.cols)};
        for (Index i = 0; i < rows; ++i) {
          wanted.slack.row(i) = (of_cols.array() + of_rows[first + i] + slack).matrix();
        }
        return wanted;
      },
      judgement);
}

Judgement judge_blend(const EditedMatrix& matrix, const StoredFactors& factors, Index k, double coef) {
  Judgement judgement;
  if (factors.delta.size() > 0 && k >= std::min(matrix.rows, matrix.cols)) {
    judgement.kind = Judgement::Kind::whole;
    hold_against_whole(matrix, factors.delta, coef, false, judgement);
    return judgement;
  }
  const Index count = std::min(k, factors.sigma.size());
  const Small left = coef * factors.u.leftCols(count) * factors.sigma.head(count).asDiagonal();
  const Small right = factors.v.leftCols(count);
  const bool nothing = left.isZero(0);
  if (nothing) judgement.kind = Judgement::Kind::none;
  const double rms = coef * factors.sigma.head(count).norm() /
                     std::sqrt(static_cast<double>(matrix.rows) * static_cast<double>(matrix.cols));
  hold_against(
      matrix, nothing, 0,
      [&](Index first, Index rows) {
        return Expected{left.middleRows(first, rows) * right.transpose(),
                        RowsInDouble::Constant(rows, matrix.cols, arithmetic_share * rms)};
      },
      judgement);
  return judgement;
}

}  // namespace lox
