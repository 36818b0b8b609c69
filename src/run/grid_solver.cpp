// SPDX-License-Identifier: MIT
#include "lox/run/grid_solver.hpp"

#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"
#include "lox/base/timer.hpp"
#include "lox/base/units.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <array>

namespace lox {

GridSolver::GridSolver(const Comm& comm, const RowReader& reader, const SolveOptions& options, const Log& log,
                       std::uint64_t memory)
    : comm_(comm),
      reader_(reader),
      options_(options),
      log_(log),
      memory_(memory),
      everyone_(comm, {1, comm.size()}) {}

Index GridSolver::rows_at_once(const Item& item) {
  return std::max<Index>(1, static_cast<Index>(grid_band_bytes / sizeof(float)) / item.matrix.cols);
}

RowRange GridSolver::my_rows(Index rows) const {
  const Index first = rows * comm_.rank() / comm_.size();
  return {first, rows * (comm_.rank() + 1) / comm_.size() - first};
}

DeltaSummary GridSolver::sum(const DeltaSummary& mine) const {
  std::array<double, 4> sums{mine.norm_squared, mine.inverse_ulps, mine.sampled, mine.noise_squared};
  comm_.sum(sums);
  DeltaSummary all;
  all.norm_squared = sums[0];
  all.inverse_ulps = sums[1];
  all.sampled = sums[2];
  all.noise_squared = sums[3];
  all.vanished = comm_.max(mine.vanished ? 1 : 0) > 0;
  all.largest = static_cast<float>(comm_.max(static_cast<double>(mine.largest)));
  return all;
}

/// Says what p?gesvd will cost, or throws if there is no memory for it.
void GridSolver::announce_exact(const Item& item) const {
  const Cost cost = grid_cost(by_exact_method(item), comm_.size());
  const std::uint64_t needed = cost.memory + program_memory;
  const std::string& name = reader_.tensor(item.matrix, aligned_model).name;
  if (needed > memory_) {
    throw SharedError(ExitCode::not_certified, no_memory_for_exact(name, needed, memory_));
  }
  log_.warn("tensor '{}': {}; p?gesvd of {} x {} begins: about {}, {} a rank", name,
            item.method == Method::exact
                ? "the exact method was asked for"
                : "the Krylov method did not reach what --tolerance and --proof ask for",
            item.matrix.rows, item.matrix.cols, format_seconds(cost.seconds),
            format_bytes(static_cast<double>(needed)));
}

/// Reads the matrix, band by band, and deals each band to the grid.
DeltaSummary GridSolver::load(const Item& item, DistMatrix& transposed, PairContent& content, Timing& timing,
                              WorkTimes& times, const Look& look) {
  const Index rows = item.matrix.rows;
  const Index band = rows_at_once(item) * comm_.size();
  DeltaSummary mine;
  for (Index first = 0; first < rows; first += band) {
    const Index count = std::min(band, rows - first);
    const Index width = (count + comm_.size() - 1) / comm_.size();
    const Index start = std::min<Index>(comm_.rank() * width, count);
    RowSlab slab;
    together(comm_, [&] {
      const Timer reading;
      slab = reader_.read(item.matrix, first + start, std::min(width, count - start));
      timing.read += reading.seconds();
      timing.bytes_read += slab.bytes_read;
      if (look) look(slab, first + start);
    });
    mine.add(slab.summary);
    content.add(slab.content);
    slab.aligned = Buffer();
    const Timer dealing;
    transposed.insert_columns(first, count, width, slab.delta.floats().data(), everyone_);
    times.redistribution += dealing.seconds();
  }
  for (Content* side : {&content.aligned, &content.base}) comm_.sum(std::span(side->sums));
  return sum(mine);
}

Solved GridSolver::solve(const Item& item, Timing& timing, WorkTimes& times, const Look& look) {
  const std::string& name = reader_.tensor(item.matrix, aligned_model).name;
  const Index m = item.matrix.rows;
  const Index n = item.matrix.cols;
  const ProcessGrid grid(comm_, choose_grid(comm_.size(), n, m));
  DistMatrix transposed(grid, n, m, choose_block(grid.shape(), n, m));
  PairContent content;
  const DeltaSummary summary = load(item, transposed, content, timing, times, look);
  fault_point("grid");
  const Timer start;
  Solved solved = begin_solved(item, name, summary);
  solved.content = content;
  if (!solved.is_zero()) {
    const auto held = static_cast<std::size_t>(transposed.local_rows() * transposed.local_cols());
    const double scale = rescale({transposed.data(), held}, summary.largest);
    GridTimes spent;
    SvdResult svd = dist_svd(transposed, svd_options(item, options_, summary, content, scale), &spent,
                             [&] { announce_exact(item); });
    times.grid.products += spent.products;
    times.grid.communication += spent.communication;
    times.grid.total += spent.total;
    together(comm_, [&] { take_svd(solved, item, name, std::move(svd), scale, options_.tolerance); });
  }
  timing.svd += start.seconds();
  return solved;
}

}  // namespace lox
