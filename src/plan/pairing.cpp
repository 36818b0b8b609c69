// SPDX-License-Identifier: MIT
#include "lox/plan/pairing.hpp"

#include "lox/base/error.hpp"
#include "lox/io/safetensors_header.hpp"

#include <algorithm>
#include <string>

namespace lox {
namespace {

void check_pair(const NamedModel& first, const TensorInfo& ours, const NamedModel& other,
                const TensorInfo& theirs, const PairRules& rules) {
  const bool extra_rows =
      rules.copy_extra_rows && !other.is_output && differs_in_rows(ours.shape, theirs.shape);
  if (ours.shape != theirs.shape && !extra_rows) {
    const bool more_rows = !rules.copy_extra_rows && differs_in_rows(ours.shape, theirs.shape);
    fail(ExitCode::bad_input, "{}: tensor '{}' has shape {}, but {} in the {} model {}{}", first.table->path,
         ours.name, shape_text(ours.shape), shape_text(theirs.shape), other.name, other.table->path,
         more_rows
             ? " (was the vocabulary extended? --extra-rows copy edits the common rows and copies the others)"
             : "");
  }
  if (ours.dtype != theirs.dtype && !(is_editable(ours.dtype) && is_editable(theirs.dtype))) {
    fail(ExitCode::bad_input, "{}: tensor '{}' has dtype {}, but {} in the {} model {}", first.table->path,
         ours.name, dtype_name(ours.dtype), dtype_name(theirs.dtype), other.name, other.table->path);
  }
}

[[noreturn]] void fail_lacking(const NamedModel& has, const std::string& tensor, const NamedModel& lacks) {
  fail(ExitCode::bad_input,
       "{}: tensor '{}' is not in the {} model {}; --exclude leaves it out; with harden and factor --rename "
       "FROM=TO pairs other names, and --unpaired copy copies what only the aligned model has",
       has.table->path, tensor, lacks.name, lacks.table->path);
}

/// Adds the index of each tensor in one more model.
void add_model(const NamedModel& first, const NamedModel& other,
               const std::function<bool(const std::string&)>& selected, const PairRules& rules,
               Pairing& pairing) {
  const bool may_lack = rules.copy_unpaired && !other.is_output;
  const std::vector<TensorInfo>& theirs = other.table->tensors;
  const TensorIndex index_of(*other.table);
  std::vector<bool> used(theirs.size());
  for (std::size_t i = 0; i < pairing.size(); ++i) {
    const TensorInfo& tensor = first.table->tensors[i];
    const int index = index_of.find(tensor.name, i);
    pairing[i].push_back(index);
    if (index >= 0) used[static_cast<std::size_t>(index)] = true;
    if (!other.is_output && !selected(tensor.name)) continue;
    if (index < 0 && may_lack) continue;
    if (index < 0) fail_lacking(first, tensor.name, other);
    check_pair(first, tensor, other, theirs[static_cast<std::size_t>(index)], rules);
  }
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    if (!used[i] && !may_lack && (other.is_output || selected(theirs[i].name)))
      fail_lacking(other, theirs[i].name, first);
  }
}

}  // namespace

void TensorIndex::make_table() const {
  if (!table_.empty()) return;
  table_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) table_.emplace(tensors_[i].name, static_cast<int>(i));
}

int TensorIndex::find(const std::string& name, std::size_t likely) const {
  if (likely < tensors_.size() && tensors_[likely].name == name) return static_cast<int>(likely);
  make_table();
  const auto found = table_.find(name);
  return found == table_.end() ? -1 : found->second;
}

bool TensorIndex::has_twins() const {
  make_table();
  return table_.size() != tensors_.size();
}

bool is_left_out(const TensorInfo& tensor, const Selection& selection) {
  const auto& shape = tensor.shape;
  return selection.include.empty() && shape.size() >= 3 &&
         (shape.back() == 1 || shape[shape.size() - 2] == 1);
}

Pairing pair_models(const std::vector<NamedModel>& models,
                    const std::function<bool(const std::string&)>& selected, const PairRules& rules) {
  Pairing pairing(models.front().table->tensors.size());
  for (std::size_t i = 0; i < pairing.size(); ++i) {
    pairing[i].reserve(models.size());
    pairing[i].push_back(static_cast<int>(i));
  }
  for (std::size_t other = 1; other < models.size(); ++other) {
    add_model(models[0], models[other], selected, rules, pairing);
  }
  return pairing;
}

}  // namespace lox
