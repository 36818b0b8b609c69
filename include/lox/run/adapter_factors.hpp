// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/adapted_model.hpp"
#include "lox/io/storage.hpp"
#include "lox/run/apply_steps.hpp"
#include "lox/run/factor_steps.hpp"
#include "lox/run/row_reader.hpp"

#include <memory>
#include <mutex>
#include <span>
#include <utility>

namespace lox {

/// The factors of the matrices that an adapter changes: Delta = scale * B A, all of its triplets.
/// Thread-safe.
class AdapterFactors final : public FactorSource {
 public:
  /// `storage`: of the adapter's own table. Both outlive it.
  AdapterFactors(const AdaptedModel& model, Storage& storage) : model_(model), storage_(storage) {}
  /// Of u the item's rows. Throws Error(bad_input) for NaN and Inf, naming the tensor.
  Solved read(const Item& item) const override;

 private:
  RowMajorDoubles entries(int tensor, Index first_row, Index rows) const;
  std::shared_ptr<const RowMajorDoubles> whole(int tensor) const;

  const AdaptedModel& model_;
  Storage& storage_;
  mutable std::mutex mutex_;
  /// The last B of experts: those of a tensor come one after the other, and each needs columns of all of it.
  mutable std::shared_ptr<const RowMajorDoubles> last_;
  mutable int last_tensor_ = -1;
};

/// A model tuned by an adapter, as it is read: rows with their Delta, rounded once. For one thread.
class AdapterUpdate final : public RowUpdate {
 public:
  /// `storage`: of the adapter's own table. Both outlive it.
  AdapterUpdate(const AdaptedModel& model, Storage& storage) : model_(model), factors_(model, storage) {}
  bool changes(const MatrixRef& matrix) const override;
  void apply(const MatrixRef& matrix, Index first, std::span<std::byte> rows) const override;

 private:
  const AdaptedModel& model_;
  AdapterFactors factors_;
  mutable Factors last_;  ///< of the matrix that was asked for last
  mutable std::pair<int, std::int64_t> last_matrix_{-1, 0};
};

/// The items of an adapter's job: those with factors are done as the first steps do them, as copies are; what
/// the adapter replaces by the others, alone or together.
class StepsByMethod final : public LocalSteps {
 public:
  StepsByMethod(LocalSteps& with_factors, LocalSteps& others)
      : with_factors_(with_factors), others_(others) {}

  std::uint64_t memory(const Item& item) const override { return of(item).memory(item); }
  void read(Parcel& parcel) override { of(parcel.item).read(parcel); }
  bool solve(Parcel& parcel) override { return of(parcel.item).solve(parcel); }
  void write(Parcel& parcel) override { of(parcel.item).write(parcel); }
  /// Both write to the same targets and one journal.
  void commit(std::vector<Record>& records) override { others_.commit(records); }

 private:
  LocalSteps& of(const Item& item) const { return item.method == Method::lora ? with_factors_ : others_; }
  LocalSteps& with_factors_;
  LocalSteps& others_;
};

/// The steps of factoring what an adapter changes: its triplets go to a store, with the content of the matrix
/// that it makes of the base's, rounded once.
class AdapterFactorSteps final : public StoreSteps {
 public:
  /// `base`: reads the rows that the adapter changes. All of them outlive it.
  AdapterFactorSteps(const RowReader& base, const AdapterFactors& factors, FactorTarget& target,
                     Journal& journal);

  std::uint64_t memory(const Item& item) const override;
  void read(Parcel& parcel) override;
  bool solve(Parcel& parcel) override;

 private:
  const RowReader& base_;
  const AdapterFactors& factors_;
};

}  // namespace lox
