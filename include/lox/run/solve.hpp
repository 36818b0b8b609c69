// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/job.hpp"
#include "lox/run/record.hpp"
#include "lox/run/row_reader.hpp"

#include <optional>
#include <string>

namespace lox {

/// What solving a matrix gives. The factors have no columns where Delta is zero, or whole (Method::full).
struct Solved {
  Factors factors;
  Spectrum spectrum;
  bool is_zero() const { return largest == 0; }
  float largest = 0;    ///< max |Delta|
  PairContent content;  ///< of the whole matrix
};

/// Solves one matrix in this rank's memory; `rows.delta` is given back, unless the method is full. Nothing if
/// the Krylov method failed and the exact one needs more memory than the item was admitted with: the item,
/// which remembers the iterations, is to be done again with Method::exact. Throws Error(not_certified) if
/// even the exact method's certificate is above the tolerance, Error(bad_input) if float is too narrow for
/// Delta.
std::optional<Solved> solve(Item& item, const std::string& tensor, RowSlab& rows,
                            const SolveOptions& options);

/// The parts that are the same wherever a matrix is solved: what its norms say, what is asked of the SVD,
/// what it found.
Solved begin_solved(const Item& item, const std::string& tensor, const DeltaSummary& summary);
SvdOptions svd_options(const Item& item, const SolveOptions& options, const DeltaSummary& summary,
                       const PairContent& content, double scale);
/// Brings the singular values back to the delta's own scale, checks the certificate, and rounds the factors
/// to what a store of them would hold.
void take_svd(Solved& solved, const Item& item, const std::string& tensor, SvdResult svd, double scale,
              double tolerance);

/// The complaint that there is no memory for the exact method where the Krylov method failed. `needed` and
/// `there`: bytes of a rank, the program's own included.
std::string no_memory_for_exact(const std::string& tensor, std::uint64_t needed, std::uint64_t there);

}  // namespace lox
