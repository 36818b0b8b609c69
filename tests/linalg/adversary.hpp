// SPDX-License-Identifier: MIT
// Random matrices that are hard for a truncated SVD: ties, outliers, graded rows, what hides from a known
// start. A recipe's matrix depends on the seed and its number alone.
#pragma once
#include "lox/linalg/matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <numbers>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace lox::adversary {

/// The standard's distributions differ from library to library, its engines do not.
class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t number) {
    std::seed_seq mixed{seed >> 32, seed & 0xffffffffU, number >> 32, number & 0xffffffffU};
    engine_.seed(mixed);
  }
  double uniform(double low = 0, double high = 1) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
  }
  /// Both ends included.
  Index integer(Index low, Index high) {
    return low + static_cast<Index>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(double probability) { return uniform() < probability; }
  double sign() { return chance(0.5) ? 1 : -1; }
  double power_of_ten(double low, double high) { return std::pow(10, uniform(low, high)); }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return from.begin()[integer(0, static_cast<Index>(from.size()) - 1)];
  }
  Small noise(Index rows, Index cols, double deviation = 1) {
    Small x(rows, cols);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = deviation * normal();
    return x;
  }
  std::vector<Index> permutation(Index count) {
    std::vector<Index> order(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) order[static_cast<std::size_t>(i)] = i;
    for (Index i = count - 1; i > 0; --i) {
      std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(integer(0, i))]);
    }
    return order;
  }

 private:
  std::mt19937_64 engine_;
};

struct Shape {
  Index m = 1;
  Index n = 1;
  Index k = 1;
  Index least() const { return std::min(m, n); }
};

using Spectrum = std::vector<double>;

/// `count` of them, largest first.
Spectrum spectrum(Index count, const std::function<double(double)>& at);

Small orthonormal(Random& g, Index rows, Index cols);

/// Known singular values in random directions.
Small rotated(Random& g, const Shape& s, const Spectrum& sigma);

/// Known singular values one in a row and a column, with random signs: exact in any precision.
Small scattered(Random& g, const Shape& s, const Spectrum& sigma);

/// Clusters of equal values, of 2 to 60 each; often one that k cuts, or one that ends at k.
Spectrum clusters(Random& g, const Shape& s);

Spectrum near_ties(Random& g, const Shape& s);

/// m x n from the left top of a Hadamard matrix: all singular values equal if m or n is a power of two.
Small hadamard(Random& g, const Shape& s);

Small identity_blocks(Random& g, const Shape& s);

/// Equal values, but for one or a few that stand out a little.
Small one_above_equals(Random& g, const Shape& s);

Small outlier(Random& g, const Shape& s);
Small spike(Random& g, const Shape& s);
Small low_rank(Random& g, const Shape& s);
Small low_rank_and_dust(Random& g, const Shape& s);

/// What training changes in BF16 weights: few entries, by one step each.
Small sparse_ulps(Random& g, const Shape& s);

Small planted_in_noise(Random& g, const Shape& s);
Small power_law(Random& g, const Shape& s);
Small geometric(Random& g, const Shape& s);
Small scaled_blocks(Random& g, const Shape& s);

/// Duplicated and zero rows and columns.
Small repeated(Random& g, const Shape& s);

/// Rows, or rows and columns, from large to small.
Small graded(Random& g, const Shape& s);

/// The largest value is one entry, alone in its row and column.
Small lone_entry(Random& g, const Shape& s);

Small constant(Random& g, const Shape& s);
Small signs(Random& g, const Shape& s);
Small integers(Random& g, const Shape& s);

}  // namespace lox::adversary
