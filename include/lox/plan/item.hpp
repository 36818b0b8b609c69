// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"
#include "lox/linalg/svd.hpp"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

namespace lox {

enum class Action { copy, edit, factor, analyse };
std::string_view action_name(Action action);

enum class Where { local, grid };
std::string_view where_name(Where where);

/// The models of a pairing. The first one leads: outputs have its tensors, in its order. From `tuned_model`
/// on: further models of the same tensors, as many as there are.
enum Role : std::size_t { aligned_model = 0, base_model = 1, tuned_model = 2 };

/// Some rows of a matrix.
struct RowRange {
  Index first = 0;
  Index count = 0;
};

/// One matrix in every model of a pairing: a tensor, or one of the batch that a tensor of more than two
/// dimensions is.
struct MatrixRef {
  std::vector<int> tensors;  ///< by Role: its tensor's index in that model
  std::int64_t number = 0;   ///< which one of the batch
  Index rows = 0;            ///< 0 x 0: a tensor that is only copied
  Index cols = 0;
  Index common = 0;  ///< rows that the base has too, the first ones, where it has another number; 0: all

  int tensor(Role role) const { return tensors[role]; }
  /// How many of these rows the base has too.
  Index paired(RowRange range) const {
    return common == 0 ? range.count : std::clamp<Index>(common - range.first, 0, range.count);
  }
};

/// One piece of work: a tensor to copy, or a matrix to edit.
struct Item {
  MatrixRef matrix;
  RowRange rows;  ///< of the matrix: all of them, but for what is done in stretches, its factors being known
  Action action = Action::copy;
  std::uint64_t bytes = 0;      ///< of the output
  bool quantised = false;       ///< the leading model's tensor is
  bool base_quantised = false;  ///< the base's is
  // Of a matrix to edit:
  DType dtype = DType::BF16;       ///< of the leading model and the output
  DType base_dtype = DType::BF16;  ///< in which the base is read
  Index k = 0;                     ///< as asked for; full_rank: all of it
  Method svd = Method::krylov;     ///< as asked for
  double proof = 0.5;              ///< as asked for
  std::int64_t stored_k = 0;       ///< triplets that there are, where factors come from a store or an adapter
  std::uint64_t shared =
      0;                    ///< of an adapter: bytes of what its items of one tensor share, or of its factors
  bool merge_only = false;  ///< of an adapter: Delta is added, and nothing of it once more
  int tuned = 0;            ///< further models whose Delta is solved beside the aligned one's
  int tried = 0;            ///< iterations of the Krylov method that did not reach the tolerance
  // Decided by the plan:
  Where where = Where::local;
  Method method = Method::krylov;
  int rank = 0;           ///< who does it, if local
  double seconds = 0;     ///< estimate, of the ranks that do it
  double first_read = 0;  ///< seconds more if a rank begins with it: reading with nothing to solve
};

/// Makes an item one of these rows of its matrix, with their bytes.
void take_rows(RowRange rows, Item& item);
/// In which its aligned rows are held and edited: F32 if they are quantised, else the dtype.
DType held_dtype(const Item& item);
/// Bytes of its aligned rows as they are held.
std::uint64_t held_bytes(const Item& item);
/// Bytes on disk of what is read of the leading model; of a quantised one without the scales.
std::uint64_t stored_bytes(const Item& item);
/// Bytes on disk of the matrix in the base, likewise.
std::uint64_t base_stored_bytes(const Item& item);

/// Bytes that an item moves in all ranks together, for progress.
std::uint64_t bytes_moved(const Item& item);

}  // namespace lox
