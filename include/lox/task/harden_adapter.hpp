// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/job.hpp"

namespace lox {

/// Hardens a LoRA adapter without its base model: job.aligned is a folder as PEFT saves it, job.output one of
/// the same tensors, names and configuration. Its Delta = scale * B A becomes Delta + coef * Delta_k by
///
///     B' = B + coef * U_k U_k^T B,
///
/// U_k the left singular vectors of B A, found by QR and a small SVD in double; A stays. Rank 0 does the
/// work. Collective.
ExitCode harden_adapter(const Comm& comm, const Job& job, const Log& log);

}  // namespace lox
