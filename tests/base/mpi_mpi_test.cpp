// SPDX-License-Identifier: MIT
#include "lox/base/mpi.hpp"

#include "lox/base/file.hpp"

#include <array>
#include <stdexcept>

#include "support/expect_error.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

class MpiTest : public ::testing::Test {
 protected:
  const Comm comm_ = Comm::world();
  const int last_ = comm_.size() - 1;
  /// Expects that `action` throws on every rank what one of them threw: this code and these words.
  template <class Action>
  void expect_shared(ExitCode code, Action action, std::string_view words) {
    try {
      action();
      ADD_FAILURE() << "nothing was thrown on rank " << comm_.rank();
    } catch (const SharedError& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_EQ(error.what(), std::string(words));
    }
    comm_.barrier();  // no rank waits for another any more
  }
};

TEST_F(MpiTest, SumsAndLargest) {
  const auto n = static_cast<std::int64_t>(comm_.size());
  EXPECT_EQ(comm_.sum(std::int64_t{comm_.rank() + 1}), n * (n + 1) / 2);
  EXPECT_EQ(comm_.max(-static_cast<double>(comm_.rank())), 0);
  std::array<double, 2> values{1.0, static_cast<double>(comm_.rank())};
  comm_.sum(values);
  EXPECT_EQ(values[0], static_cast<double>(n));
  EXPECT_EQ(values[1], static_cast<double>(n * (n - 1) / 2));
  std::array<std::uint64_t, 1> wrapping{std::uint64_t{1} << 63};
  comm_.sum(wrapping);
  EXPECT_EQ(wrapping[0], n % 2 == 0 ? 0U : std::uint64_t{1} << 63);
}

TEST_F(MpiTest, TextsGoFromAnyRankToAll) {
  const std::string mine = "of rank " + std::to_string(comm_.rank());
  EXPECT_EQ(comm_.broadcast(mine), "of rank 0");
  EXPECT_EQ(comm_.broadcast(mine, last_), "of rank " + std::to_string(last_));
  EXPECT_EQ(comm_.broadcast(comm_.is_root() ? "" : "not empty"), "");
  std::string large(File::piece + 3, 'a');  // more than one message
  large.back() = 'z';
  EXPECT_EQ(comm_.broadcast(comm_.is_root() ? large : ""), large);
}

TEST_F(MpiTest, GatherKeepsTheRanksApart) {
  const std::vector<std::string> texts =
      comm_.gather(std::string(static_cast<std::size_t>(comm_.rank()) * 2, 'x'));  // rank 0's is empty
  if (!comm_.is_root()) {
    EXPECT_TRUE(texts.empty());
    return;
  }
  ASSERT_EQ(texts.size(), static_cast<std::size_t>(comm_.size()));
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts[i], std::string(2 * i, 'x'));
}

TEST_F(MpiTest, AFailureOfOneRankIsAllRanks) {
  expect_shared(
      ExitCode::io,
      [&] {
        together(comm_, [&] {
          if (comm_.rank() == last_) fail(ExitCode::io, "disk of rank {}", comm_.rank());
        });
      },
      "disk of rank " + std::to_string(last_));
}

TEST_F(MpiTest, OfSeveralFailuresTheLowestRanksCounts) {
  expect_shared(
      ExitCode::bad_input,
      [&] {
        together(comm_, [&] {
          fail(comm_.is_root() ? ExitCode::bad_input : ExitCode::usage, "rank {}", comm_.rank());
        });
      },
      "rank 0");
}

TEST_F(MpiTest, OtherExceptionsAreInternalErrors) {
  expect_shared(
      ExitCode::internal,
      [&] {
        together(comm_, [&] {
          if (comm_.rank() == last_) throw std::out_of_range("beyond the end");
        });
      },
      "beyond the end");
}

TEST_F(MpiTest, WithoutAFailureAllGoOn) {
  int done = 0;
  together(comm_, [&] { ++done; });
  on_root(comm_, [&] { ++done; });
  EXPECT_EQ(done, comm_.is_root() ? 2 : 1);
  EXPECT_NO_THROW(agree(comm_, std::nullopt));
}

TEST_F(MpiTest, WhatFailsOnTheRootFailsEverywhere) {
  expect_shared(
      ExitCode::not_certified, [&] { on_root(comm_, [] { fail(ExitCode::not_certified, "no: 7 words"); }); },
      "no: 7 words");
}

TEST_F(MpiTest, RanksOfOneMachineShareANode) {
  const NodeSpread spread = node_spread(comm_);
  EXPECT_EQ(spread.nodes, 1);
  EXPECT_EQ(spread.ranks_here, comm_.size());
}

/// MPI's words for a class of errors.
std::string words_of(int error_class) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(error_class, text.data(), &length);
  return {text.data(), static_cast<std::size_t>(length)};
}

TEST_F(MpiTest, AFailedCallIsAnErrorInMpisWords) {
  testing::expect_error(ExitCode::internal, [] { check_mpi(MPI_ERR_COUNT, "MPI_Bcast"); },
                        {"MPI_Bcast: " + words_of(MPI_ERR_COUNT)});
  std::array<double, 1> value{};
  // The world returns errors (MpiSession): they are found here.
  testing::expect_error(
      ExitCode::internal,
      [&] { check_mpi(MPI_Bcast(value.data(), 1, MPI_DOUBLE, comm_.size() + 5, comm_.get()), "it"); },
      {"it: " + words_of(MPI_ERR_ROOT)});
}

}  // namespace
}  // namespace lox
