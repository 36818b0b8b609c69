// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/factor_target.hpp"
#include "lox/run/grid_solver.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/steps.hpp"

#include <memory>
#include <vector>

namespace lox {

/// What all steps have in common whose triplets go to a store.
class StoreSteps : public LocalSteps {
 public:
  /// Both outlive it.
  StoreSteps(FactorTarget& target, Journal& journal) : target_(target), journal_(journal) {}
  void write(Parcel& parcel) final;
  void commit(std::vector<Record>& records) final;

 protected:
  FactorTarget& target_;
  Journal& journal_;
};

/// The steps of factoring: Delta is solved, and its triplets go to a store.
class FactorSteps final : public StoreSteps, public GridSteps {
 public:
  /// `memory`: bytes that a rank may use. `target` outlives it.
  FactorSteps(const Comm& comm, const RowReader& reader, const SolveOptions& options, FactorTarget& target,
              Journal& journal, const Log& log, std::uint64_t memory);

  std::uint64_t memory(const Item& item) const override;
  void read(Parcel& parcel) override;
  bool solve(Parcel& parcel) override;
  Record solve_together(const Item& item) override;
  const WorkTimes& times() const override { return times_; }

 private:
  void describe(const Item& item, const Solved& solved, Record& record) const;

  Comm comm_;
  const RowReader& reader_;
  SolveOptions options_;
  Log log_;
  std::uint64_t memory_;
  WorkTimes times_;
  std::unique_ptr<GridSolver> grid_;  ///< made when the first grid item comes
};

}  // namespace lox
