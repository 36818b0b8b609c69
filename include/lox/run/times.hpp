// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/mpi.hpp"
#include "lox/linalg/dist_svd.hpp"

namespace lox {

/// Seconds of one rank, or summed over ranks: what its solver did, and what its reading and writing threads
/// did beside.
struct WorkTimes {
  double solving = 0;
  double waiting = 0;  ///< the solver, for reader and writer
  double idle = 0;     ///< after the rank's own work, until the last rank has finished: load imbalance
  double reading = 0;
  double writing = 0;
  GridTimes grid;  ///< of `solving`: matrices solved by all ranks
  double redistribution = 0;
};

/// Sums over ranks, on all of them. Collective.
WorkTimes sum_times(const Comm& comm, const WorkTimes& mine);

}  // namespace lox
