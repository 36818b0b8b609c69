// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"
#include "lox/plan/job.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lox {

/// A checkpoint and what it is called in messages: "base", "aligned".
struct NamedModel {
  std::string_view name;
  const Checkpoint* table;
  bool is_output = false;  ///< holds every tensor of the first model, also those that are only copied
};

/// Finds tensors of a model by name. The table of all names is made when it is first needed: models mostly
/// have their tensors in one order.
class TensorIndex {
 public:
  /// `model` outlives it and does not change.
  explicit TensorIndex(const Checkpoint& model) : tensors_(model.tensors) {}
  /// The tensor's number, -1 if there is none of this name; `likely`: where it is in a model of one order.
  int find(const std::string& name, std::size_t likely) const;
  bool contains(const std::string& name, std::size_t likely) const { return find(name, likely) >= 0; }
  /// Whether two tensors have one name.
  bool has_twins() const;

 private:
  void make_table() const;
  const std::vector<TensorInfo>& tensors_;
  mutable std::unordered_map<std::string_view, int> table_;
};

/// The tensors of several checkpoints of one model, matched by name: for each tensor of the first model, in
/// its order, the tensor's index in every model, -1 where there is none and none is needed.
using Pairing = std::vector<std::vector<int>>;

/// Throws Error(bad_input) naming the tensor that a model lacks or has too many, or whose shape, or dtype
/// where it cannot be edited, is another. Nothing is asked of tensors that are not `selected`: they are
/// copied from the first model. `rules`: what else may differ.
Pairing pair_models(const std::vector<NamedModel>& models,
                    const std::function<bool(const std::string&)>& selected, const PairRules& rules = {});

/// Whether these are shapes of two matrices that differ in their number of rows alone.
bool differs_in_rows(const std::vector<std::int64_t>& ours, const std::vector<std::int64_t>& theirs);

/// Whether a tensor of matrices is copied unless --include names it: a batch of single rows or
/// columns (conv1d.weight [C, 1, k]), whose Delta is of rank 1 in each.
bool is_left_out(const TensorInfo& tensor, const Selection& selection);

}  // namespace lox
