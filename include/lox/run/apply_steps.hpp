// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/factors.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/steps.hpp"
#include "lox/run/target.hpp"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace lox {

/// The models of an apply item's MatrixRef: the aligned one, then the parts of its factors (FactorPart).
inline constexpr std::size_t first_factor = 1;

/// What each matrix of the aligned model must hold, by tensor and number: the factors are of no other.
using ExpectedContents = std::map<std::pair<std::string, std::int64_t>, Content>;

/// Throws Error(bad_input), naming the tensor, if the aligned matrix is another than the factors are of.
void check_content(const ExpectedContents& expected, const std::string& tensor, std::int64_t matrix,
                   const Content& found);

/// Where factors of matrices come from that need not be solved for. Thread-safe.
class FactorSource {
 public:
  virtual ~FactorSource() = default;
  /// The triplets that the item asks for, without those that are zero; of u the item's rows.
  virtual Solved read(const Item& item) const = 0;
  /// The item's rows of Delta itself, where they are known and no triplets are needed; else nothing.
  virtual Buffer read_delta(const Item& /*item*/) const { return {}; }
};

/// The factors of rows of matrices, from a store. Thread-safe.
class FactorReader final : public FactorSource {
 public:
  FactorReader(const Checkpoint& store, Storage& storage) : store_(store), storage_(storage) {}
  /// The first item.k triplets, without those that are zero; of u the item's rows. Throws Error(bad_input)
  /// for NaN and Inf, naming the tensor.
  Solved read(const Item& item) const override;
  /// Their singular values alone.
  std::vector<double> read_sigma(const Item& item) const;
  /// The item's rows of Delta itself, where it has no more than item.k triplets; else nothing.
  Buffer read_delta(const Item& item) const override;

 private:
  Small columns(const Item& item, FactorPart part, RowRange rows, Index all_rows) const;
  Buffer entries(const Item& item, FactorPart part, std::uint64_t first, std::uint64_t count) const;
  const Checkpoint& store_;
  Storage& storage_;
};

/// The steps of applying: rows of the aligned model get each target's blend of factors from a store; rows of
/// the base, an adapter's Delta and its blend.
class ApplySteps final : public LocalSteps {
 public:
  /// All of them outlive it. `aligned`: reads the rows that are edited. `expected`: what these must hold;
  /// nullptr: anything.
  ApplySteps(const RowReader& aligned, const FactorSource& factors, const ExpectedContents* expected,
             std::vector<Target*> targets, Journal& journal);

  std::uint64_t memory(const Item& item) const override;
  void read(Parcel& parcel) override;
  bool solve(Parcel& parcel) override;
  void write(Parcel& parcel) override;
  void commit(std::vector<Record>& records) override;

 private:
  const RowReader& aligned_;
  const FactorSource& factors_;
  const ExpectedContents* expected_;
  std::vector<Target*> targets_;
  Journal& journal_;
};

}  // namespace lox
