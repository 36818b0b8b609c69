// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/grid_solver.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/steps.hpp"
#include "lox/run/target.hpp"

#include <memory>
#include <vector>

namespace lox {

/// The steps of editing: Delta is solved, and each target gets the aligned matrix with its blend of it, or a
/// copy of what is not edited.
class EditSteps final : public LocalSteps, public GridSteps {
 public:
  /// `memory`: bytes that a rank may use. `targets` outlive it.
  EditSteps(const Comm& comm, const RowReader& reader, const SolveOptions& options,
            std::vector<Target*> targets, Journal& journal, const Log& log, std::uint64_t memory);

  std::uint64_t memory(const Item& item) const override;
  void read(Parcel& parcel) override;
  bool solve(Parcel& parcel) override;
  void write(Parcel& parcel) override;
  void commit(std::vector<Record>& records) override;
  Record solve_together(const Item& item) override;
  const WorkTimes& times() const override { return times_; }

 private:
  RecordKey key(const Item& item, Action action) const;
  std::vector<EditSummary> write_my_rows(const Item& item, const Solved& solved, Record& record,
                                         DeltaSummary* delta);
  void finish_together(const Item& item, std::vector<EditSummary> edits, Record& record);

  Comm comm_;
  const RowReader& reader_;
  SolveOptions options_;
  std::vector<Target*> targets_;
  Journal& journal_;
  Log log_;
  std::uint64_t memory_;
  WorkTimes times_;
  std::unique_ptr<GridSolver> grid_;  ///< made when the first grid item comes
};

}  // namespace lox
