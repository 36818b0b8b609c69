// SPDX-License-Identifier: MIT
// What the promise of the Krylov method is made of, one part at a time, without any matrix.
#include "lox/linalg/krylov.hpp"

#include <cmath>

#include <gtest/gtest.h>

namespace lox {
namespace {

constexpr double asked = 1e-3;  // of the proof: more than anything here reaches, so that it goes on

KrylovOptions options_for(Index k) {
  KrylovOptions options;
  options.k = k;
  options.proof = asked;
  return options;
}

KrylovJudge judge_for(const KrylovOptions& options) {
  return {options, 4096, arithmetic<double>, false};
}

/// A state at k + 1 triplets that are exact.
KrylovState state_at(Index k) {
  KrylovState state;
  state.ritz = {Small::Identity(k + 1, k + 1), Eigen::VectorXd::LinSpaced(k + 1, 2, 1),
                Small::Identity(k + 1, k + 1)};
  state.residuals = Eigen::VectorXd::Zero(k + 1);
  return state;
}

/// Epsilon after so many probes of four passes each.
double epsilon_after(int probes, const KrylovState& state, bool restarted = false) {
  const KrylovOptions options = options_for(10);
  KrylovJudge judge = judge_for(options);
  for (int probe = 0; probe < probes; ++probe) {
    judge.probe_begins(state.ritz.sigma);
    for (int pass = 0; pass < 4; ++pass) judge.count_pass();
  }
  if (restarted) {
    judge.restarted(state.ritz.sigma);
    judge.count_pass();  // counts no more
  }
  judge.consider(state);
  return judge.missed().epsilon;
}

TEST(KrylovJudge, EveryProbeHasItsShareOfTheProbability) {
  const KrylovState state = state_at(10);
  const double first = epsilon_after(1, state);
  EXPECT_GT(epsilon_after(2, state), first);
  KrylovSpace space{8, 1, 4, 4096, true, -1};
  const double tolerance = options_for(10).tolerance;
  EXPECT_NEAR(first, (1 + missed_epsilon(space, miss_probability / 4)) * (1 + tolerance) - 1, 1e-12);
  EXPECT_NEAR(epsilon_after(2, state),
              (1 + missed_epsilon(space, miss_probability / 8)) * (1 + tolerance) - 1, 1e-12);
}

TEST(KrylovJudge, WhatTheTripletsLackStandsInEpsilon) {
  KrylovState state = state_at(10);
  const double without = epsilon_after(1, state);
  state.lost = 0.25 * state.ritz.sigma[9];
  EXPECT_NEAR(epsilon_after(1, state), without + 0.25, 1e-12);
}

TEST(KrylovJudge, ARestartIsHalfAPassBehindAndProvesNoExhaustion) {
  KrylovState state = state_at(10);
  EXPECT_GT(epsilon_after(1, state, true), epsilon_after(1, state));
  state.exhausted = true;
  EXPECT_LE(epsilon_after(1, state), 2 * options_for(10).tolerance);
  EXPECT_GT(epsilon_after(1, state, true), 0.1);
}

TEST(KrylovJudge, AWideStartProvesNothing) {
  const KrylovOptions options = options_for(9);  // wider than a block
  KrylovJudge judge = judge_for(options);
  for (int pass = 0; pass < 50; ++pass) judge.count_pass();
  judge.consider(state_at(9));
  EXPECT_TRUE(std::isinf(judge.missed().epsilon));
}

TEST(KrylovJudge, GivesUpWhereNoIterationHelps) {
  const KrylovOptions options = options_for(6);
  KrylovJudge judge = judge_for(options);
  KrylovState state = state_at(6);
  state.worst_lost = 0.9 * options.tolerance;
  EXPECT_NE(judge.consider(state), KrylovJudge::Verdict::give_up);
  state.worst_lost = 1.1 * options.tolerance;
  EXPECT_EQ(judge.consider(state), KrylovJudge::Verdict::give_up);
}

}  // namespace
}  // namespace lox
