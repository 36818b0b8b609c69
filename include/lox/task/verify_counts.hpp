// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/task/reference_edit.hpp"

#include <cstdint>

namespace lox {

/// What verify has looked at.
struct VerifyCounts {
  std::int64_t none = 0;
  std::int64_t whole = 0;
  std::int64_t unique = 0;
  std::int64_t tied = 0;
  std::int64_t undecided = 0;
  std::int64_t loose = 0;
  std::int64_t copied = 0;
  std::int64_t files = 0;
  double as_expected = 1;  ///< of the 16-bit ones with a unique edit; wider ones show the solver's arithmetic
  // What there is to look at, on rank 0:
  std::int64_t edited = 0;     ///< matrices
  std::int64_t all_files = 0;  ///< other files of the aligned model that harden carries over

  void add(const Judgement& judgement, DType dtype);
  /// Over ranks. Collective.
  void sum(const Comm& comm);
  std::int64_t checked() const { return none + whole + unique + tied; }
};

/// What was looked at of a hardened model, and what was not. `place`: its format has one for other files.
void log_result(const Log& log, const VerifyCounts& counts, bool place);
/// The same of a store of factors.
void log_store(const Log& log, const VerifyCounts& counts);

}  // namespace lox
