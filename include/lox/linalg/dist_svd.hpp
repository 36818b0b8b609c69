// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/dist_matrix.hpp"
#include "lox/linalg/svd.hpp"

#include <functional>

namespace lox {

/// Where a distributed SVD spends its time, on this rank.
struct GridTimes {
  double products = 0;
  double communication = 0;
  double total = 0;  ///< the rest is orthonormalisation and small problems
};

/// The top k singular triplets of an m x n matrix held as its transpose (n x m) on a process grid: the Krylov
/// method with local products and sums along grid rows and columns, or p?gesvd. Same meaning of everything as
/// truncated_svd(); u (m x r) and v (n x r) are whole on every rank, those outside the grid included. The
/// matrix is kept. Throws Stopped, on all ranks, if any of them was asked to drop its work. Collective over
/// all ranks of the grid's communicator; grid ranks must be of one kind of processor. `before_exact` is
/// called on all ranks before p?gesvd starts, which takes hundreds of times longer; it may throw, alike on
/// all ranks.
SvdResult dist_svd(const DistMatrix& transposed, const SvdOptions& options, GridTimes* times = nullptr,
                   const std::function<void()>& before_exact = {});

/// Is the matrix so small that one rank solves it in less time than the ranks need to talk?
bool prefers_exact_on_grid(Index rows, Index cols);

}  // namespace lox
