// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/linalg/dist_matrix.hpp"
#include "lox/run/edit.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/report.hpp"

#include <memory>
#include <vector>

namespace lox {

/// Does the items that all ranks solve together: each reads contiguous slabs of rows, band by band, which are
/// dealt to the process grid; after the SVD each extrapolates and writes its own rows. No rank ever holds a
/// whole matrix.
class GridWork {
 public:
  /// `memory`: bytes that a rank may use.
  GridWork(const Comm& comm, ModelFiles& files, const Job& job, Journal& journal, const Log& log,
           std::uint64_t memory);

  /// Hardens one matrix and appends its record to rank 0's journal. Bad input on one rank is thrown on all,
  /// as SharedError. Collective. The record is whole on rank 0 only.
  TensorRecord edit(const WorkItem& item);
  /// Where the time went so far, on this rank.
  const WorkTimes& times() const { return times_; }

 private:
  struct Rows {
    Index first = 0;
    Index count = 0;
  };
  Rows my_rows(Index rows) const;
  DeltaSummary load(const WorkItem& item, DistMatrix& transposed, PairContent& content, TensorRecord& timing);
  DeltaSummary sum(const DeltaSummary& mine) const;
  void announce_exact(const WorkItem& item) const;
  EditSummary write_rows(const WorkItem& item, const Factors* factors, TensorRecord& record,
                         DeltaSummary& delta);
  void finish(const WorkItem& item, const EditSummary& edit, TensorRecord& record);

  Comm comm_;
  ModelFiles& files_;
  const Job& job_;
  Journal& journal_;
  const Log& log_;
  std::uint64_t memory_;
  WorkTimes times_;
  ProcessGrid everyone_;  ///< 1 x P: the distribution of row slabs
};

}  // namespace lox
