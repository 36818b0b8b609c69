// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/linalg/dist_matrix.hpp"
#include "lox/run/solve.hpp"
#include "lox/run/times.hpp"

#include <functional>

namespace lox {

/// Solves matrices by all ranks together. Each rank reads contiguous slabs of rows, band by band, which are
/// dealt to the process grid; no rank ever holds a whole matrix.
class GridSolver {
 public:
  /// `memory`: bytes that a rank may use.
  GridSolver(const Comm& comm, const RowReader& reader, const SolveOptions& options, const Log& log,
             std::uint64_t memory);

  /// The factors of one matrix, whole on every rank. Adds to `timing` what this rank read and how long it
  /// took. Bad input on one rank is thrown on all, as SharedError; so is a certificate that does not hold.
  /// Collective.
  /// `look`: is shown the rows from `first` on that this rank has read, before they are dealt to the grid;
  /// may throw, but must not be collective.
  using Look = std::function<void(const RowSlab& rows, Index first)>;
  Solved solve(const Item& item, Timing& timing, WorkTimes& times, const Look& look = nullptr);

  /// The rows of a matrix that this rank edits: each rank has one stretch.
  RowRange my_rows(Index rows) const;
  /// What all ranks found of one delta. Collective.
  DeltaSummary sum(const DeltaSummary& mine) const;

  /// Rows whose delta is about `grid_band_bytes`.
  static Index rows_at_once(const Item& item);

 private:
  DeltaSummary load(const Item& item, DistMatrix& transposed, PairContent& content, Timing& timing,
                    WorkTimes& times, const Look& look);
  void announce_exact(const Item& item) const;

  Comm comm_;
  const RowReader& reader_;
  const SolveOptions& options_;
  const Log& log_;
  std::uint64_t memory_;
  ProcessGrid everyone_;  ///< 1 x P: the distribution of row slabs
};

}  // namespace lox
