// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"
#include "lox/linalg/svd.hpp"

#include <cstdint>
#include <string_view>

namespace lox {

enum class Action { copy, edit };
std::string_view action_name(Action action);

enum class Where { local, grid };
std::string_view where_name(Where where);

/// One piece of work: a tensor to copy, or one matrix to edit (a tensor of more than two dimensions is a
/// batch of them).
struct WorkItem {
  int tensor = 0;           ///< index into the aligned checkpoint's tensors
  std::int64_t matrix = 0;  ///< which one of the batch
  Action action = Action::copy;
  Where where = Where::local;
  Method method = Method::krylov;
  std::uint64_t bytes = 0;  ///< of the output
  // Of a matrix to edit:
  Index rows = 0;
  Index cols = 0;
  DType dtype = DType::BF16;  ///< of the aligned model and the output
  DType base_dtype = DType::BF16;
  Index k = 0;                  ///< as asked for; 0: full rank
  Method svd = Method::krylov;  ///< as asked for
  double proof = 0.5;           ///< as asked for
  int tried = 0;                ///< iterations of the Krylov method that did not reach the tolerance
  // Decided by the plan:
  int rank = 0;           ///< who does it, if local
  double seconds = 0;     ///< estimate, of the ranks that do it
  double first_read = 0;  ///< seconds more if a rank begins with it: reading with nothing to solve
};

}  // namespace lox
