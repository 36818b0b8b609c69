// SPDX-License-Identifier: MIT
#include "lox/linalg/missed.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

namespace lox {
namespace {

/// Lengths of normal vectors exceed their mean by this with a probability of exp(-32).
constexpr double length_margin = 8;

/// The union over the wanted values of what smallest_value_tail() says of each.
double miss_tail(const KrylovSpace& space, double t) {
  double probability = 0;
  for (Index i = 1; i <= space.wanted; ++i) probability += smallest_value_tail(i, space.block, t);
  return probability;
}

/// The largest t whose probability is still small enough, less a hundredth for lengths. Asked for often.
double threshold(const KrylovSpace& space, double probability) {
  thread_local std::map<std::tuple<Index, Index, double>, double> known;
  const auto [place, is_new] = known.try_emplace({space.wanted, space.block, probability}, 0.0);
  if (!is_new) return place->second;
  double low = -60;  // log t
  double high = 10;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (miss_tail(space, std::exp(middle)) <= 0.99 * probability ? low : high) = middle;
  }
  return place->second = std::exp(low);
}

/// Where a growing function of y exceeds `bound`.
template <class Function>
double solve(Function function, double bound) {
  double low = 0;
  double high = 1;
  while (function(high) < bound && high < 1e3) high *= 2;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (function(middle) < bound ? low : high) = middle;
  }
  return high;
}

/// What sinh(q y) is to exceed if all smaller values are as large as s_k can be, or what cosh(y) sinh((q - 1)
/// y) is to if they are as large as their squares' sum allows.
double by_count(const KrylovSpace& space, double probability) {
  const double length = std::sqrt(space.dimension) + std::sqrt(static_cast<double>(space.wanted));
  return (length + length_margin) / threshold(space, probability);
}
double by_size(const KrylovSpace& space, double probability) {
  const double length = std::sqrt(space.tail) + std::sqrt(static_cast<double>(space.wanted));
  return 1.05 * (length + length_margin) / threshold(space, probability);
}

/// Half passes less than twice the passes.
double behind(const KrylovSpace& space) {
  return space.ahead ? 0 : 1;
}

}  // namespace

double smallest_value_tail(Index rows, Index block, double t) {
  if (rows > block) return 1;
  const auto k = static_cast<double>(rows);
  const auto b = static_cast<double>(block);
  const double free = b - k + 1;
  const double log_density = (b - k - 1) / 2 * std::log(2.0) + std::lgamma((b + 1) / 2) - std::lgamma(k / 2) -
                             std::lgamma(b - k + 1);
  return std::min(1.0, std::exp(log_density + std::log(2 / free) + free * std::log(t)));
}

double missed_epsilon(const KrylovSpace& space, double probability) {
  if (space.wanted > space.block || space.passes < 1) return std::numeric_limits<double>::infinity();
  // With 1 + epsilon = cosh y.
  const double q = 2.0 * space.passes - behind(space);
  const double y = std::asinh(by_count(space, probability)) / q;
  if (space.tail < 0) return std::cosh(y) - 1;
  const auto growth = [&](double x) { return std::cosh(x) * std::sinh(std::min((q - 1) * x, 600.0)); };
  return std::cosh(std::min(y, solve(growth, by_size(space, probability)))) - 1;
}

int passes_for(const KrylovSpace& space, double epsilon) {
  constexpr double most = 1000;
  if (space.wanted > space.block) return static_cast<int>(most);
  const double y = std::acosh(1 + epsilon);
  double q = std::asinh(by_count(space, miss_probability)) / y;
  if (space.tail >= 0) {
    q = std::min(q, std::asinh(by_size(space, miss_probability) / std::cosh(y)) / y + 1);
  }
  return static_cast<int>(std::clamp(std::ceil((q + behind(space)) / 2), 1.0, most));
}

double exhausted_probability(const KrylovSpace& space, double floor) {
  return miss_tail(space, floor * (std::sqrt(space.dimension) + std::sqrt(static_cast<double>(space.wanted)) +
                                   length_margin));
}

}  // namespace lox
