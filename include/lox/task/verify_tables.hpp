// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/factors.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/verify.hpp"

#include <optional>
#include <vector>

namespace lox {

inline constexpr auto hardened_model = static_cast<Role>(2);

/// The models, and what of them is compared.
struct VerifyTables {
  Checkpoint base;  ///< where a store takes its place, the aligned model
  Checkpoint aligned;
  Checkpoint hardened;                  ///< where a store is checked, the aligned model
  Checkpoint store;                     ///< if there is one
  FactorsInfo info;                     ///< of the store, on rank 0
  std::optional<AdaptedModel> adapter;  ///< if it makes the aligned model
  std::vector<Item> items;

  const TensorInfo& tensor(const Item& item, Role role) const {
    const Checkpoint& model = role == aligned_model ? aligned : role == base_model ? base : hardened;
    return model.tensors[static_cast<std::size_t>(item.matrix.tensor(role))];
  }
};

/// Reads the headers. For rank 0.
void open_tables(const VerifyJob& asked, VerifyTables& opened);

/// Names, shapes and dtypes of all must agree. With a store, what it has factors of is edited, and it has no
/// factors of anything else.
void pair_tables(const VerifyJob& asked, VerifyTables& opened);

}  // namespace lox
