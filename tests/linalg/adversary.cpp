// SPDX-License-Identifier: MIT
#include "linalg/adversary.hpp"

#include <Eigen/QR>

namespace lox::adversary {

Spectrum spectrum(Index count, const std::function<double(double)>& at) {
  Spectrum sigma;
  for (Index i = 0; i < count; ++i) sigma.push_back(at(static_cast<double>(i)));
  std::sort(sigma.rbegin(), sigma.rend());
  return sigma;
}

Small orthonormal(Random& g, Index rows, Index cols) {
  const Eigen::HouseholderQR<Small> qr(g.noise(rows, cols));
  return qr.householderQ() * Small::Identity(rows, cols);
}

Small rotated(Random& g, const Shape& s, const Spectrum& sigma) {
  const auto count = std::min<Index>(static_cast<Index>(sigma.size()), s.least());
  const Eigen::Map<const Eigen::VectorXd> values(sigma.data(), count);
  const Small u = orthonormal(g, s.m, count) * values.asDiagonal();
  return u * orthonormal(g, s.n, count).transpose();
}

Small scattered(Random& g, const Shape& s, const Spectrum& sigma) {
  Small a = Small::Zero(s.m, s.n);
  const auto rows = g.permutation(s.m);
  const auto cols = g.permutation(s.n);
  for (std::size_t i = 0; i < std::min<std::size_t>(sigma.size(), static_cast<std::size_t>(s.least())); ++i) {
    a(rows[i], cols[i]) = g.sign() * sigma[i];
  }
  return a;
}

Spectrum clusters(Random& g, const Shape& s) {
  Spectrum sigma;
  double value = 1;
  while (static_cast<Index>(sigma.size()) < s.least()) {
    const auto so_far = static_cast<Index>(sigma.size());
    Index count = g.integer(2, 60);
    if (so_far < s.k && g.chance(0.4)) count = s.k - so_far + g.pick<Index>({0, 1, 5, 40});
    sigma.insert(sigma.end(), static_cast<std::size_t>(std::max<Index>(count, 1)), value);
    value *= g.pick({0.5, 0.75, 0.9375, 0.125});
  }
  return sigma;
}

Spectrum near_ties(Random& g, const Shape& s) {
  const double distance = g.power_of_ten(-8, -2);
  const auto tied = static_cast<double>(std::min(s.least(), s.k + g.integer(0, 60)));
  return spectrum(s.least(), [&](double i) { return i < tied ? 1 - distance * i : 0.5 * std::pow(0.97, i); });
}

Small hadamard(Random& g, const Shape& s) {
  Small a(s.m, s.n);
  for (Index j = 0; j < s.n; ++j) {
    const double scale = g.chance(0.9) ? 1 : 0.5;
    for (Index i = 0; i < s.m; ++i) {
      a(i, j) = (__builtin_popcountll(static_cast<std::uint64_t>(i & j)) % 2 == 0 ? 1 : -1) * scale;
    }
  }
  return a;
}

Small identity_blocks(Random& g, const Shape& s) {
  Small a = Small::Zero(s.m, s.n);
  const Spectrum sigma = g.chance(0.5) ? clusters(g, s) : Spectrum(static_cast<std::size_t>(s.least()), 1.0);
  for (Index i = 0; i < s.least(); ++i) a(i, i) = sigma[static_cast<std::size_t>(i)];
  return a;
}

Small one_above_equals(Random& g, const Shape& s) {
  Spectrum sigma(static_cast<std::size_t>(s.least()), 1.0);
  const Index above = g.pick<Index>({1, 1, 2, std::max<Index>(s.k - 1, 1)});
  const double by = g.power_of_ten(-2, 0.5);
  for (Index i = 0; i < std::min(above, s.least()); ++i) sigma[static_cast<std::size_t>(i)] += by;
  return g.chance(0.5) ? scattered(g, s, sigma) : rotated(g, s, sigma);
}

Small outlier(Random& g, const Shape& s) {
  Small a = g.noise(s.m, s.n);
  const double factor = g.power_of_ten(1, 8);
  const Index row = g.integer(0, s.m - 1);
  const Index col = g.integer(0, s.n - 1);
  switch (g.integer(0, 2)) {
    case 0:
      a(row, col) = factor * std::sqrt(static_cast<double>(s.m + s.n));
      break;
    case 1:
      a.row(row) *= factor;
      break;
    default:
      a.col(col) *= factor;
  }
  return a;
}

Small spike(Random& g, const Shape& s) {
  const double factor = g.power_of_ten(1, 8);
  const double spikes = g.pick({1, 1, 3});
  const double decay = g.uniform(0.8, 1);
  return rotated(g, s, spectrum(s.least(), [&](double i) {
                   return std::pow(decay, i) * (i < spikes ? factor * (3 - i) : 1.0);
                 }));
}

Small low_rank(Random& g, const Shape& s) {
  const Index rank =
      std::clamp<Index>(g.pick<Index>({1, 2, s.k - 1, s.k, s.k, s.k + 1, 2 * s.k}), 1, s.least());
  const auto integers = [&](Index rows) {
    Small x(rows, rank);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<double>(g.integer(-3, 3));
    return x;
  };
  const Small left = integers(s.m);
  return left * integers(s.n).transpose();  // exact
}

Small low_rank_and_dust(Random& g, const Shape& s) {
  const Small a = low_rank(g, s);
  return a + g.noise(s.m, s.n, g.power_of_ten(-7, -3));
}

Small sparse_ulps(Random& g, const Shape& s) {
  Small a = Small::Zero(s.m, s.n);
  const double density = g.power_of_ten(-3.5, -0.3);
  for (Index i = 0; i < a.size(); ++i) {
    if (g.chance(density)) a.data()[i] = g.sign() * std::ldexp(1, static_cast<int>(g.integer(-18, -13)));
  }
  return a;
}

Small planted_in_noise(Random& g, const Shape& s) {
  const double level = g.power_of_ten(-4, 0) / std::sqrt(static_cast<double>(s.m + s.n));
  const Index rank = g.pick<Index>({1, s.k, s.k + 2});
  const Spectrum sigma = spectrum(rank, [&](double i) { return 1 / (1 + 0.3 * i); });
  const Small a = rotated(g, s, sigma);
  return a + g.noise(s.m, s.n, level);
}

Small power_law(Random& g, const Shape& s) {
  const double exponent = g.uniform(0.1, 3);
  return rotated(g, s, spectrum(s.least(), [&](double i) { return std::pow(i + 1, -exponent); }));
}

Small geometric(Random& g, const Shape& s) {
  const double ratio = g.pick({0.3, 0.7, 0.9, 0.98, 0.999});
  return rotated(g, s, spectrum(s.least(), [&](double i) { return std::pow(ratio, i); }));
}

Small scaled_blocks(Random& g, const Shape& s) {
  Small a = Small::Zero(s.m, s.n);
  for (Index row = 0, col = 0; row < s.m && col < s.n;) {
    const Index rows = std::min(g.integer(1, 80), s.m - row);
    const Index cols = std::min(g.integer(1, 80), s.n - col);
    a.block(row, col, rows, cols) = g.noise(rows, cols, g.power_of_ten(-6, 0));
    row += rows;
    col += cols;
  }
  return a;
}

Small repeated(Random& g, const Shape& s) {
  Small a = g.noise(s.m, s.n);
  const Index distinct = g.integer(1, std::min<Index>(s.m, 2 * s.k));
  const double zero = g.pick({0.0, 0.3, 0.9});
  for (Index i = distinct; i < s.m; ++i) a.row(i) = a.row(i % distinct) * g.pick({1.0, 1.0, -1.0});
  for (Index j = 1; j < s.n; ++j) {
    if (g.chance(zero)) a.col(j).setZero();
    if (g.chance(zero)) a.col(j) = a.col(0);
  }
  return a;
}

Small graded(Random& g, const Shape& s) {
  const double rows = g.uniform(0, 7);
  const double cols = g.chance(0.5) ? 0 : g.uniform(0, 4);
  const auto grades = [](Index count, double digits) {
    return Eigen::VectorXd::LinSpaced(count, 0, -digits * std::numbers::ln10).array().exp().matrix().eval();
  };
  return grades(s.m, rows).asDiagonal() * g.noise(s.m, s.n) * grades(s.n, cols).asDiagonal();
}

Small lone_entry(Random& g, const Shape& s) {
  Small a =
      g.chance(0.5) ? g.noise(s.m, s.n, 1 / std::sqrt(static_cast<double>(s.m + s.n))) : power_law(g, s);
  const Index row = g.integer(0, s.m - 1);
  const Index col = g.integer(0, s.n - 1);
  a.row(row).setZero();
  a.col(col).setZero();
  a(row, col) = 1.5 * (1 + g.power_of_ten(-2, 3));
  return a;
}

Small constant(Random& g, const Shape& s) {
  Small a = Small::Constant(s.m, s.n, g.pick({1.0, -3.0, 0.1}));
  if (g.chance(0.5)) a(g.integer(0, s.m - 1), s.n / 2) += g.power_of_ten(-5, 3);
  if (g.chance(0.1)) a.setZero();
  return a;
}

Small signs(Random& g, const Shape& s) {
  Small a(s.m, s.n);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = g.sign();
  return a;
}

Small integers(Random& g, const Shape& s) {
  const Index most = g.pick<Index>({1, 2, 100});
  Small a(s.m, s.n);
  for (Index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<double>(g.integer(-most, most));
  return a;
}

}  // namespace lox::adversary
