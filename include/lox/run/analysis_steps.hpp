// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/apply_steps.hpp"
#include "lox/run/grid_solver.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/steps.hpp"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace lox {

/// What analyze is asked of every matrix.
struct AnalysisOptions {
  SolveOptions solve;    ///< solve.k: the largest of
  std::vector<Index> k;  ///< rising
  bool angles = false;
};

/// A store whose triplets take the place of the SVD of Delta.
struct StoredFactors {
  const Checkpoint* table;
  std::int64_t k;  ///< triplets of a matrix
  FactorReader reader;
  FactorTable names;
  ExpectedContents contents;
  std::map<std::pair<std::string, std::int64_t>, double> delta_norms;
};

/// The steps of analysing: Delta is solved, or its factors are read; then T - base of each tuned model T, one
/// after the other, is held against its factors and solved too. The base's rows stay in memory meanwhile, so
/// that every model is read once; of matrices that all ranks solve, the base is read with each model.
class AnalysisSteps final : public LocalSteps, public GridSteps {
 public:
  /// `models`: by Role. `stored` may be null; it, options, and the models outlive this. `memory`: bytes that
  /// a rank may use.
  AnalysisSteps(const Comm& comm, const std::vector<OpenModel>& models, const AnalysisOptions& options,
                const StoredFactors* stored, Journal& journal, const Log& log, std::uint64_t memory);

  std::uint64_t memory(const Item& item) const override;
  void read(Parcel& parcel) override;
  bool solve(Parcel& parcel) override;
  void write(Parcel& parcel) override;
  void commit(std::vector<Record>& records) override;
  Record solve_together(const Item& item) override;
  const WorkTimes& times() const override { return times_; }

 private:
  Item of_pair(const Item& item, std::size_t pair) const;
  RecordKey key(const Item& item) const;
  Solved read_factors(const Item& item, const std::string& name, const DeltaSummary& summary,
                      const PairContent& content) const;
  TunedMatrix measure(const Factors& aligned, const Small& image, const Solved& tuned) const;
  Solved aligned_together(const Item& item, Record& record);
  TunedMatrix tuned_together(const Item& item, std::size_t pair, const Factors& aligned, Timing& timing);
  GridSolver& grid(std::size_t pair);

  Comm comm_;
  std::vector<RowReader> pairs_;  ///< aligned and base, then each tuned model and base
  const AnalysisOptions& options_;
  const StoredFactors* stored_;
  Journal& journal_;
  Log log_;
  std::uint64_t memory_;
  WorkTimes times_;
  std::vector<std::unique_ptr<GridSolver>> grids_;  ///< made when the first grid item comes
};

}  // namespace lox
