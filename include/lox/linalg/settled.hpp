// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/small_svd.hpp"

#include <limits>
#include <string_view>
#include <vector>

namespace lox {

/// What is asked of Delta_k' for the k' below k, beside Delta_k itself.
enum class EveryK {
  ignored,  ///< nothing
  named,    ///< which of them are not settled; the factors are the same bits as without this wish
  settled,  ///< go on until each is, as if its k' had been asked for; those that cannot be are named
};

/// A k' whose Delta_k' is not known to be as accurate as asked.
struct Unsettled {
  enum class Why {
    tie,         ///< s_k' = s_k'+1, as far as the arithmetic tells
    rounding,    ///< the arithmetic has no more to give
    unfinished,  ///< more iterations would settle it: only of EveryK::named
  };
  Index k = 0;
  double gap = 0;  ///< (s_k' - s_k'+1) / s_k'
  Why why = Why::tie;
  bool operator==(const Unsettled&) const = default;
};
std::string_view unsettled_name(Unsettled::Why why);

/// Singular values closer than this, relatively, count as a tie that may be left alone.
inline constexpr double tie_gap = 1e-3;

/// The error of an iteration's result, from how it changes from one state to the next: the changes shrink
/// about as the error does, which is the sum of those to come.
class Trend {
 public:
  void follow(double change);
  double error() const { return error_; }

 private:
  double change_ = 0;
  double rate_ = 0;  ///< of two changes
  double error_ = std::numeric_limits<double>::infinity();
};

/// Estimates the error of Delta_k, in the coordinates of the bases, which only grow.
class ErrorOfDelta {
 public:
  explicit ErrorOfDelta(Index k) : k_(k) {}
  /// The next estimate of Delta_k: the k largest triplets.
  void see(const SmallSvd& ritz);
  /// The bases were exchanged for the vectors of triplets with these values.
  void restart(const Eigen::VectorXd& sigma);
  double value() const { return trend_.error(); }

 private:
  Index k_;
  Small last_;
  Trend trend_;
};

/// The same of Delta_k' for each k' <= count.
class ErrorsOfPrefixes {
 public:
  explicit ErrorsOfPrefixes(Index count) : trends_(static_cast<std::size_t>(count)) {}
  void see(const SmallSvd& ritz);
  void restart(const Eigen::VectorXd& sigma);
  double value(Index k) const { return trends_[static_cast<std::size_t>(k - 1)].error(); }

 private:
  SmallSvd last_;
  std::vector<Trend> trends_;
};

/// |Delta_k' - Delta'_k'|_F for each k' <= count, of two sets of triplets in coordinates of which the earlier
/// set has the first. No difference of large numbers is taken, so that small changes are known as well.
Eigen::VectorXd prefix_changes(const SmallSvd& earlier, const SmallSvd& later, Index count);

/// The k' for which triplets with these residuals (relative to each value) may leave Delta_k' worse than
/// `delta_error` by Wedin's bound. `next`: the largest value beyond, 0 if unknown. `delta_error` <= 0: none.
std::vector<Unsettled> unsettled_by_residuals(const std::vector<double>& sigma, double next,
                                              const std::vector<double>& residuals, double delta_error);

}  // namespace lox
