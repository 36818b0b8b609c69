// SPDX-License-Identifier: MIT
#pragma once
#include "lox/linalg/extrapolate.hpp"
#include "lox/run/models.hpp"
#include "lox/run/record.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace lox {

/// Hardens one matrix by this rank alone: afterwards `slab.aligned` holds the hardened bytes and `slab.delta`
/// is given back. Nothing if the Krylov method failed and the exact one needs more memory than the item was
/// admitted with: the item is to be done again with Method::exact. Throws Error(bad_input) if an entry
/// overflows, Error(not_certified) if even the exact method's certificate is above the tolerance.
std::optional<TensorRecord> edit_matrix(WorkItem& item, const TensorInfo& tensor, RowSlab& slab,
                                        const Job& job);

/// The parts of an edit that are the same wherever it is solved: the record before the SVD, what is asked of
/// the SVD, what the SVD adds to the record, and what the extrapolation adds.
TensorRecord start_record(const WorkItem& item, const TensorInfo& tensor, const Job& job,
                          const DeltaSummary& summary);
/// What the delta's norms say: its length, and whether there is anything to add at all.
void add_delta(TensorRecord& record, const DeltaSummary& summary);
SvdOptions svd_options(const TensorRecord& record, const WorkItem& item, const TensorInfo& tensor,
                       const Job& job, const DeltaSummary& summary, const PairContent& content, double scale);
/// Brings the singular values back to the delta's own scale and checks the certificate.
void add_svd(TensorRecord& record, const Job& job, SvdResult& svd, double scale);
/// The complaint that there is no memory for the exact method where the Krylov method failed. `needed` and
/// `there`: bytes of a rank, the program's own included.
std::string no_memory_for_exact(const TensorInfo& tensor, std::uint64_t needed, std::uint64_t there);
void add_edit(TensorRecord& record, const TensorInfo& tensor, const EditSummary& edit);

}  // namespace lox
