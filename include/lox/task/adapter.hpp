// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/io/adapter.hpp"
#include "lox/linalg/matrix.hpp"

#include <string>
#include <vector>

namespace lox {

/// What the user asked `adapter` to do.
struct AdapterJob {
  fs::path factors;
  std::string output;  ///< with {coef} where there are several of them
  Index k = 0;         ///< 0: all triplets that the store has
  std::vector<double> coef;
  AdapterFor program = AdapterFor::peft;
  DType dtype = DType::F32;
  bool onto_base = false;  ///< it is put beside the base model, not the aligned one
  bool overwrite = false;
  bool accept_open = false;  ///< also a k that the store does not vouch for
};

/// Throws Error(usage) naming the option that makes no sense.
void check_adapter_job(const AdapterJob& job);

/// Writes the edit as a LoRA adapter: adapter_model.safetensors and adapter_config.json in a folder for every
/// coef, the weights being one file with several names, and a report beside each. What the program cannot
/// take is told in a line each. Rank 0 does the work. Collective.
ExitCode adapter(const Comm& comm, const AdapterJob& job, const Log& log);

}  // namespace lox
