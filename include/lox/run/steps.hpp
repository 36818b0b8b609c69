// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/record.hpp"
#include "lox/run/row_reader.hpp"
#include "lox/run/solve.hpp"
#include "lox/run/times.hpp"

#include <cstdint>
#include <vector>

namespace lox {

/// An item on its way through the local pipeline.
struct Parcel {
  Item item;
  RowSlab rows;                ///< read, to be solved; empty for copies
  Solved solved;               ///< where the factors are written, or were read
  std::vector<Buffer> edited;  ///< by target: rows to be written
  Record record;
  std::uint64_t held = 0;  ///< bytes of the memory gate
};

/// What a task does with an item that this rank solves alone: three steps in three threads, each for one
/// parcel at a time.
class LocalSteps {
 public:
  virtual ~LocalSteps() = default;
  /// Bytes that the item takes while it is in the pipeline.
  virtual std::uint64_t memory(const Item& item) const = 0;
  /// Fills in what is needed to solve an item that is not copied. Reader's thread.
  virtual void read(Parcel& parcel) = 0;
  /// False if the item must be done again by the exact method, which needs more memory than it was admitted
  /// with.
  virtual bool solve(Parcel& parcel) = 0;
  /// Writes what is to be written of the item. Writer's thread.
  virtual void write(Parcel& parcel) = 0;
  /// All that was written so far is on disk when it returns, and `records` vouch for it after that. Writer's
  /// thread.
  virtual void commit(std::vector<Record>& records) = 0;
};

/// What a task does with an item that all ranks solve together.
class GridSteps {
 public:
  virtual ~GridSteps() = default;
  /// All of it; every rank's bytes are on disk and the record vouches for them when it returns. The record is
  /// whole on rank 0 only. Bad input on one rank is thrown on all, as SharedError. Collective.
  virtual Record solve_together(const Item& item) = 0;
  /// Where the time of these items went, on this rank.
  virtual const WorkTimes& times() const = 0;
};

}  // namespace lox
