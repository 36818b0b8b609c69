// SPDX-License-Identifier: MIT
#include "lox/linalg/svd.hpp"

#include "lox/linalg/krylov.hpp"
#include "lox/linalg/local_operator.hpp"

#include <cmath>
#include <functional>
#include <string>

#include "linalg/spectra.hpp"
#include <Eigen/SVD>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lox {
namespace {

/// The certificate by its definition, in double, sharing no code with the solver.
double certificate_in_double(const RowMajorMatrix& a, const Factors& f) {
  const Small delta = a.cast<double>();
  double worst = 0;
  for (Index i = 0; i < f.u.cols(); ++i) {
    const Eigen::VectorXd u = f.u.col(i);
    const Eigen::VectorXd v = f.v.col(i);
    const double s = f.sigma[static_cast<std::size_t>(i)];
    worst = std::max({worst, (delta * v - s * u).norm() / s, (delta.transpose() * u - s * v).norm() / s});
  }
  return worst;
}

/// All singular values by Eigen's full SVD in double.
Eigen::VectorXd reference_sigma(const RowMajorMatrix& a) {
  return Eigen::BDCSVD<Small>(a.cast<double>()).singularValues();
}

struct Case {
  std::string name;
  std::function<RowMajorMatrix()> make;
  Index k = 6;
};

std::vector<Case> cases() {
  const auto of = [](Index m, Index n, std::vector<double> sigma) {
    return [=] { return RowMajorMatrix(planted(m, n, sigma).matrix().cast<float>()); };
  };
  return {
      {"planted with a gap", of(400, 300, {8, 7, 6, 5, 4, 3, .01, .009, .008}), 6},
      {"planted in noise",
       [] {
         return RowMajorMatrix(planted(500, 300, {3, 2.5, 2, 1.5, 1.2, 1}).matrix().cast<float>() +
                               noise(500, 300, 0.01));
       },
       6},
      {"power law, square", of(400, 400, power_law(400, 1)), 6},
      {"power law, slow, tall", of(900, 300, power_law(300, 0.5)), 6},
      {"power law, wide", of(300, 900, power_law(300, 0.7)), 6},
      {"pure noise", [] { return noise(600, 400, 1e-3); }, 6},
      {"rank below k", of(400, 300, {3, 2, 1}), 6},
      {"rank one", of(300, 400, {5}), 6},
      {"all equal below the first", of(300, 300, std::vector<double>(250, 1.0)), 6},
      {"s_k = s_k+1", of(300, 400, {5, 4, 3, 2, 1.5, 1, 1, 1, 0.5, 0.2, 0.1}), 6},
      {"clustered", of(400, 300, {1, 1 - 1e-5, 1 - 2e-5, 1 - 3e-5, .5, .5 - 1e-6, .5 - 2e-6, .3}), 6},
      {"one huge outlier",
       [] {
         RowMajorMatrix x = noise(400, 300, 1e-4);
         x(17, 33) = 1e4F;
         return x;
       },
       6},
      {"k = 1", of(400, 300, power_law(200, 0.8)), 1},
      {"k = 40", of(500, 400, power_law(300, 0.8)), 40},
      {"k = 100", of(500, 700, power_law(500, 0.6)), 100},
      {"k = min(m, n)", of(60, 200, power_law(60, 0.5)), 60},
      {"k beyond min(m, n)", of(40, 200, power_law(40, 0.5)), 100},
      {"a row", of(1, 500, {2}), 6},
      {"a column", of(500, 1, {2}), 6},
      {"all zero", [] { return RowMajorMatrix(RowMajorMatrix::Zero(300, 300)); }, 6},
      {"tiny, scaled", of(300, 300, power_law(200, 1)), 6},
  };
}

class TruncatedSvd : public testing::TestWithParam<Method> {};

TEST_P(TruncatedSvd, FindsKnownSpectraWithAnHonestCertificate) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const RowMajorMatrix a = c.make();
    SvdOptions options;
    options.k = c.k;
    options.method = GetParam();
    const SvdResult result = truncated_svd(RowMajorView(a.data(), a.rows(), a.cols()), options);
    const Factors& f = result.factors;
    const Eigen::VectorXd expected = reference_sigma(a);
    ASSERT_LE(f.u.cols(), std::min<Index>(c.k, expected.size()));
    ASSERT_EQ(f.u.cols(), static_cast<Index>(f.sigma.size()));
    ASSERT_EQ(f.v.cols(), f.u.cols());
    for (Index i = 0; i < std::min<Index>(c.k, expected.size()); ++i) {
      const double got = i < f.u.cols() ? f.sigma[static_cast<std::size_t>(i)] : 0.0;
      EXPECT_NEAR(got, expected[i], 1e-5 * expected[i] + 1e-12 * expected[0]) << i;
    }
    EXPECT_TRUE(result.certificate.holds(options.tolerance));
    EXPECT_NEAR(certificate_in_double(a, f), result.certificate.residual, 2e-5);
    EXPECT_LE(result.missed.epsilon, options.proof);
    EXPECT_LE(result.missed.probability, miss_probability);
    if (f.u.cols() > 0) {
      const Small identity = Small::Identity(f.u.cols(), f.u.cols());
      EXPECT_LE((f.u.transpose() * f.u - identity).cwiseAbs().maxCoeff(), 2e-5);
      EXPECT_LE((f.v.transpose() * f.v - identity).cwiseAbs().maxCoeff(), 2e-5);
    }
    fmt::print("{:28} {:7} iterations {:3}  certificate {:.1e} {:.1e}  missed {:.2f} {:.0e}{}\n", c.name,
               method_name(result.method), result.iterations, result.certificate.residual,
               result.certificate.orthogonality, result.missed.epsilon, result.missed.probability,
               result.settled ? "" : "  not settled");
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, TruncatedSvd, testing::Values(Method::krylov, Method::exact),
                         [](const auto& instance) { return std::string(method_name(instance.param)); });

/// A block of 8 sees 8 of 9 equal values. What is left of the norm allows the ninth well within the promise,
/// yet it belongs to the k largest.
TEST(Krylov, LooksForMoreCopiesThanABlockHasColumns) {
  std::vector<double> sigma{5, 4, 3, 2};
  sigma.insert(sigma.end(), 9, 1.0);
  sigma.insert(sigma.end(), 3, 0.98);
  for (int i = 0; i < 60; ++i) sigma.push_back(0.3 * std::pow(0.9, i));
  const RowMajorMatrix a = planted(300, 280, sigma).matrix().cast<float>();
  for (std::uint64_t key = 0; key < 5; ++key) {
    SvdOptions options;
    options.k = 13;
    options.norm_squared = a.cast<double>().squaredNorm();
    options.key = key;
    LocalOperator op(RowMajorView(a.data(), a.rows(), a.cols()));
    const KrylovResult result = krylov_svd(op, krylov_options(options));
    ASSERT_TRUE(result.converged);
    EXPECT_NEAR(result.sigma[12], 1.0, 1e-4);
  }
}

/// NaN must not pass for a small number.
TEST(Krylov, DoesNotCertifyNan) {
  const RowMajorMatrix a = RowMajorMatrix::Identity(20, 20);
  LocalOperator op(RowMajorView(a.data(), a.rows(), a.cols()));
  Small u = Small::Identity(20, 2);
  const Small v = u;
  EXPECT_TRUE(measure_certificate<double>(op, u, {1, 1}, v).holds(1e-4));
  u.setConstant(std::nan(""));
  EXPECT_FALSE(measure_certificate<double>(op, u, {1, 1}, u).holds(1e-4));
}

TEST(TruncatedSvd, ReachesTheAskedErrorOfDelta) {
  const Planted p = planted(600, 500, power_law(400, 0.5));
  const RowMajorMatrix a = p.matrix().cast<float>();
  const Index k = 6;
  const Small exact = p.u.leftCols(k) * p.sigma.head(k).asDiagonal() * p.v.leftCols(k).transpose();
  for (const double wanted : {1e-2, 1e-3, 1e-4}) {
    SvdOptions options;
    options.tolerance = 0.1;
    options.delta_error = wanted * exact.norm();
    const SvdResult result = truncated_svd(RowMajorView(a.data(), a.rows(), a.cols()), options);
    ASSERT_EQ(result.method, Method::krylov);
    EXPECT_LE((product(result.factors) - exact).norm(), 1.5 * options.delta_error) << wanted;
  }
}

/// Counts products with A^T alone.
struct CountingOperator : LocalOperator {
  using LocalOperator::LocalOperator;
  template <class P>
  void apply_adjoint(const P& x, P& y) {
    ++adjoints;
    LocalOperator::apply_adjoint(x, y);
  }
  int adjoints = 0;
};
struct TwoPassOperator : LocalOperator {
  using LocalOperator::LocalOperator;
  static constexpr bool one_pass = false;
};

/// The k largest singular values and A's part in their directions, from A A^T in double. (Not by Eigen's
/// solver of eigenvalues: see orthonormaliser().)
struct Top {
  Eigen::VectorXd sigma;
  Small part;
};
Top top_of(const RowMajorMatrix& a, Index k) {
  const Small exact = a.cast<double>();
  const Eigen::BDCSVD<Small> svd(exact * exact.transpose(), Eigen::ComputeThinU);
  const Small u = svd.matrixU().leftCols(k);
  return {svd.singularValues().head(k).cwiseSqrt(), u * (u.transpose() * exact)};
}

/// A^T U is taken from A^T A X while that is exact enough, and nobody could tell from the result: noise from
/// as large as s_1 to none at all, and shapes in which errors fade (tall) or grow (wide) from block to block.
TEST(Krylov, OnePassIsAsGoodAsTwo) {
  struct Ask {
    double tolerance;
    double delta_error = 0;
  };
  struct Trial {
    Index rows, cols;
    double floor;  ///< s_1 of the noise, beside planted values of 1 to 0.35; 1: noise alone
    Index k;
    std::vector<Ask> asks;
  };
  std::vector<Trial> trials;
  for (const double floor : {0.3, 1e-1, 1e-2, 1e-3, 1e-4, 0.0}) {
    trials.push_back({600, 500, floor, 6, {{1e-2}, {1e-4}, {1e-6}}});
  }
  trials.push_back({256, 7168, 1, 6, {{1e-4}, {8e-6}, {1e-4, 3e-5}}});
  for (const Index k : {6, 30}) trials.push_back({200, 8000, 1, k, {{1e-5}}});
  trials.push_back({300, 4000, 0.7, 30, {{1e-4, 1e-4}}});
  trials.push_back({400, 1100, 0.3, 6, {{1e-4, 1e-5}}});
  trials.push_back({700, 300, 1, 6, {{1e-5, 1e-4}}});
  int one_pass_only = 0;
  int adjoints_only = 0;
  int both = 0;
  for (const Trial& t : trials) {
    RowMajorMatrix a =
        noise(t.rows, t.cols,
              t.floor / (std::sqrt(static_cast<double>(t.rows)) + std::sqrt(static_cast<double>(t.cols))));
    if (t.floor < 1) a += planted(t.rows, t.cols, {1, 0.8, 0.6, 0.5, 0.4, 0.35}).matrix().cast<float>();
    const RowMajorView view(a.data(), a.rows(), a.cols());
    const Top exact = top_of(a, t.k);
    for (const Ask& ask : t.asks) {
      SvdOptions options;
      options.k = t.k;
      options.tolerance = ask.tolerance;
      options.delta_error = ask.delta_error;
      CountingOperator once(view);
      TwoPassOperator twice(view);
      const KrylovResult found = krylov_svd(once, krylov_options(options));
      const KrylovResult reference = krylov_svd(twice, krylov_options(options));
      const Factors factors{found.u, found.sigma, found.v};
      const double error = (product(factors) - exact.part).norm();
      const double error_of_two = (product({reference.u, reference.sigma, reference.v}) - exact.part).norm();
      const std::string named = fmt::format("{} x {} floor {:6} k {:2} tolerance {:6} error {:6}", t.rows,
                                            t.cols, t.floor, t.k, ask.tolerance, ask.delta_error);
      SCOPED_TRACE(named);
      ASSERT_TRUE(reference.converged);
      ASSERT_TRUE(found.converged);
      EXPECT_LE(std::abs(found.iterations - reference.iterations), 1);
      EXPECT_LE(certificate_in_double(a, factors), 1.1 * ask.tolerance);
      if (ask.delta_error > 0) {
        EXPECT_LE(error, 1.5 * std::max(ask.delta_error, error_of_two));
      }
      for (Index i = 0; i < t.k && i < static_cast<Index>(found.sigma.size()); ++i) {
        const double off = std::abs(found.sigma[static_cast<std::size_t>(i)] - exact.sigma[i]);
        EXPECT_LE(off, std::max(1e-6, ask.tolerance * ask.tolerance / 0.01) * exact.sigma[0]) << i;
      }
      const bool always = once.adjoints >= found.iterations - 1;
      (once.adjoints == 0 ? one_pass_only : always ? adjoints_only : both) += 1;
      fmt::print("{}: {} iterations ({}), {} products with A^T alone, error {:.1e} ({:.1e})\n", named,
                 found.iterations, reference.iterations, once.adjoints, error, error_of_two);
    }
  }
  EXPECT_GT(one_pass_only, 0);
  EXPECT_GT(adjoints_only, 0);
  EXPECT_GT(both, 0);
}

TEST(TruncatedSvd, GivesWayToTheExactMethodWhenTheToleranceIsBeyondDouble) {
  const RowMajorMatrix a = noise(400, 300, 1);
  SvdOptions options;
  options.tolerance = 1e-16;
  const SvdResult result = truncated_svd(RowMajorView(a.data(), a.rows(), a.cols()), options);
  EXPECT_EQ(result.method, Method::exact);
  EXPECT_FALSE(result.certificate.holds(options.tolerance));  // and does not claim what it has not reached
}

TEST(TruncatedSvd, SameBitsForTheSameKey) {
  const RowMajorMatrix a = noise(400, 300, 1);
  SvdOptions options;
  const auto run = [&] { return truncated_svd(RowMajorView(a.data(), a.rows(), a.cols()), options); };
  const SvdResult one = run();
  const SvdResult two = run();
  EXPECT_EQ(one.method, Method::krylov);
  EXPECT_TRUE((one.factors.u.array() == two.factors.u.array()).all());
  options.key = 77;
  EXPECT_FALSE((run().factors.u.array() == one.factors.u.array()).all());
}

}  // namespace
}  // namespace lox
