// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/adapted_model.hpp"
#include "lox/io/storage.hpp"
#include "lox/plan/item.hpp"
#include "lox/task/reference_edit.hpp"

namespace lox {

/// What an adapter adds to a matrix: Delta = left right^T, in double.
struct ReferenceProduct {
  Small left;   ///< m x r, the scale in it
  Small right;  ///< n x r
  RowsInDouble delta() const { return left * right.transpose(); }
};

/// Read by code that `harden` has no part in. `storage`: of the adapter's own table.
ReferenceProduct reference_product(const AdaptedModel& model, Storage& storage, const Item& item);

/// Holds a hardened matrix against W_base + Delta + coef * Delta_k, formed anew in double; `matrix.aligned`
/// has the rows of the base. k = 0: full rank.
Judgement judge_adapted(const EditedMatrix& matrix, const ReferenceProduct& product, Index k, double coef);

}  // namespace lox
