// SPDX-License-Identifier: MIT
// Many random matrices that are hard for a truncated SVD, each answer judged. Environment:
//   LOX_ADVERSARIES=10000       how many
//   LOX_ADVERSARY_SEED=2        other ones
//   LOX_ADVERSARY_ONLY=17       one of them alone
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include "linalg/adversary_judge.hpp"
#include "linalg/adversary_recipe.hpp"
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lox::adversary {
namespace {

std::optional<std::uint64_t> number_in(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? std::nullopt : std::optional<std::uint64_t>(std::strtoull(text, nullptr, 10));
}

struct Solver {
  std::string_view name;
  Answer (*ask)(const RowMajorView&, const Ask&);
  bool may_give_up;  ///< another takes over then
};

/// How often what went wrong, for one kind and one solver.
struct Tally {
  int asked = 0;
  int gave_up = 0;
  int failed = 0;
  std::map<std::string_view, int> faults;
};

/// Asks a solver and judges its answer; nothing where it gives up and may.
std::optional<Faults> faults_of(const Solver& solver, const RowMajorMatrix& a, const Reference& reference,
                                const Ask& ask) {
  try {
    const Answer answer = solver.ask(RowMajorView(a.data(), a.rows(), a.cols()), ask);
    if (solver.may_give_up && !answer.converged) return std::nullopt;
    return judge(a.cast<double>(), reference, ask, answer);
  } catch (const std::exception& error) {
    return Faults{{"exception", error.what()}};
  }
}

void count(Tally& tally, const std::optional<Faults>& faults, const std::string& named) {
  ++tally.asked;
  tally.gave_up += !faults;
  if (!faults || faults->empty()) return;
  ++tally.failed;
  std::string all;
  for (const Fault& fault : *faults) {
    ++tally.faults[fault.what];
    all += fmt::format("\n  {}: {}", fault.what, fault.detail);
  }
  ADD_FAILURE() << named << all;
}

TEST(Adversary, FindsNoWrongAnswer) {
  const std::uint64_t seed = number_in("LOX_ADVERSARY_SEED").value_or(1);
  const auto only = number_in("LOX_ADVERSARY_ONLY");
  const std::uint64_t first = only.value_or(0);
  const std::uint64_t last = only ? first + 1 : number_in("LOX_ADVERSARIES").value_or(300);
  const std::vector<Solver> solvers{{"truncated_svd", &ask_truncated, false},
                                    {"krylov_svd", &ask_krylov, true}};
  std::map<std::pair<std::size_t, std::size_t>, Tally> tallies;
  for (std::uint64_t number = first; number < last; ++number) {
    const Recipe recipe = recipe_of(seed, number);
    const RowMajorMatrix a = matrix_of(recipe);
    ASSERT_TRUE(a.allFinite()) << recipe.text();
    const Reference reference = reference_svd(a.cast<double>());
    const Index k = recipe.shape.k;
    const Ask ask{k, 1e-4, sensible_delta_error(reference, k, recipe.wide), recipe.wide};
    if (only) {
      fmt::print("{}\ns_1 = {:.6g}, s_k = {:.6g}, s_k+1 = {:.6g}\n", recipe.text(), reference.at(0),
                 reference.at(k - 1), reference.at(k));
    }
    for (std::size_t s = 0; s < solvers.size(); ++s) {
      count(tallies[{recipe.kind, s}], faults_of(solvers[s], a, reference, ask),
            fmt::format("{}, {}", recipe.text(), solvers[s].name));
    }
  }
  int asked = 0;
  int gave_up = 0;
  for (const auto& [of, tally] : tallies) {
    std::string faults;
    for (const auto& [what, times] : tally.faults) faults += fmt::format(", {} {}", what, times);
    fmt::print("{:20} {:13} {:4} asked {:4} gave up {:4} failed{}\n", kinds()[of.first].name,
               solvers[of.second].name, tally.asked, tally.gave_up, tally.failed, faults);
    asked += tally.asked;
    gave_up += tally.gave_up;
  }
  EXPECT_LE(gave_up, std::max(1, asked / 4));
}

/// The judge's own judge: LAPACK's SVD and Eigen's Jacobi method agree on small adversaries of every kind.
TEST(Adversary, ReferencesAgree) {
  int checked = 0;
  for (std::uint64_t number = 0; checked < 100; ++number) {
    const Recipe recipe = recipe_of(3, number);
    if (recipe.shape.least() > 40) continue;
    ++checked;
    const Small a = matrix_of(recipe).cast<double>();
    const Reference lapack = reference_svd(a);
    const Eigen::VectorXd jacobi = jacobi_svd(a).sigma;
    EXPECT_LE((lapack.sigma - jacobi).cwiseAbs().maxCoeff(), double_rounding * jacobi[0]) << recipe.text();
  }
}

/// A recipe repeats, and every kind of fault is seen.
TEST(Adversary, TheJudgeSeesEveryFault) {
  Random g(5, 0);
  const Small a = rotated(g, {60, 50, 4}, spectrum(50, [](double i) { return std::pow(0.5, i); }));
  const Reference r = reference_svd(a);
  const Ask ask{4, 1e-4, sensible_delta_error(r, 4, false)};
  const Answer good{r.u.leftCols(4), r.sigma.head(4), r.v.leftCols(4)};
  EXPECT_TRUE(judge(a, r, ask, good).empty());
  const auto seen = [&](const Answer& bad) {
    std::set<std::string_view> names;
    for (const Fault& fault : judge(a, r, ask, bad)) names.insert(fault.what);
    return names;
  };
  using Names = std::set<std::string_view>;
  Answer bad = good;
  bad.converged = false;
  EXPECT_EQ(seen(bad), Names{"disowned"});
  bad = {r.u.leftCols(3), r.sigma.head(3), r.v.leftCols(3)};
  EXPECT_EQ(seen(bad), (Names{"count", "delta", "remainder"}));
  bad = good;
  bad.u.col(3) = r.u.col(4);
  bad.v.col(3) = r.v.col(4);
  bad.sigma[3] = r.sigma[4];  // a missed value, certified
  EXPECT_EQ(seen(bad), (Names{"value", "delta", "remainder"}));
  bad = good;
  bad.u.col(3) += 1e-3 * r.u.col(0);
  EXPECT_EQ(seen(bad), (Names{"certificate", "claim", "orthogonality", "delta"}));
  bad = good;
  bad.v.col(0) += 5e-5 * r.v.col(7);
  EXPECT_EQ(seen(bad), (Names{"claim"}));
  bad.v(0, 0) = std::nan("");
  EXPECT_EQ(seen(bad), Names{"not finite"});
  for (const std::uint64_t number : {0, 17, 44}) {
    EXPECT_EQ(matrix_of(recipe_of(1, number)), matrix_of(recipe_of(1, number)));
  }
}

}  // namespace
}  // namespace lox::adversary
