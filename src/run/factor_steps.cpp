// SPDX-License-Identifier: MIT
#include "lox/run/factor_steps.hpp"

#include "lox/base/timer.hpp"
#include "lox/plan/cost.hpp"

#include <array>
#include <cstring>

namespace lox {

FactorSteps::FactorSteps(const Comm& comm, const RowReader& reader, const SolveOptions& options,
                         FactorTarget& target, Journal& journal, const Log& log, std::uint64_t memory)
    : StoreSteps(target, journal),
      comm_(comm),
      reader_(reader),
      options_(options),
      log_(log),
      memory_(memory) {}

/// With a copy of Delta where the store wants it.
std::uint64_t FactorSteps::memory(const Item& item) const {
  const bool whole = std::min(item.matrix.rows, item.matrix.cols) <= item.k;
  return local_cost(item).memory +
         (whole ? static_cast<std::uint64_t>(item.matrix.rows * item.matrix.cols) * sizeof(float) : 0);
}

void FactorSteps::describe(const Item& item, const Solved& solved, Record& record) const {
  const TensorInfo& tensor = reader_.tensor(item.matrix, aligned_model);
  record.key = {tensor.name, item.matrix.number, Action::factor, item.matrix.rows * item.matrix.cols, 0};
  record.spectrum = solved.spectrum;
  record.aligned = solved.content.aligned;
  record.base = solved.content.base;
}

void FactorSteps::read(Parcel& parcel) {
  const MatrixRef& matrix = parcel.item.matrix;
  parcel.record.key.name = reader_.tensor(matrix, aligned_model).name;
  parcel.rows = reader_.read(matrix, 0, matrix.rows);
  parcel.rows.aligned = Buffer();
  parcel.record.timing.bytes_read = parcel.rows.bytes_read;
}

bool FactorSteps::solve(Parcel& parcel) {
  const Timer start;
  const std::string name = parcel.record.key.name;
  Buffer delta;
  if (target_.wants_delta(name)) {
    delta = Buffer(parcel.rows.delta.size());
    std::memcpy(delta.data(), parcel.rows.delta.data(), delta.size());
  }
  const std::optional<Solved> solved = lox::solve(parcel.item, name, parcel.rows, options_);
  if (!solved) return false;
  describe(parcel.item, *solved, parcel.record);
  parcel.edited = target_.parts(name, *solved, delta.floats());
  parcel.record.timing.svd = start.seconds();
  return true;
}

void StoreSteps::write(Parcel& parcel) {
  const Timer start;
  target_.write(parcel.record.key.name, parcel.item.matrix.number, parcel.edited, parcel.record);
  parcel.record.timing.write = start.seconds();
}

/// Bytes to disk first, then the lines that vouch for them.
void StoreSteps::commit(std::vector<Record>& records) {
  target_.sync();
  journal_.append(records);
}

/// Every rank has the whole factors when they are found: rank 0 writes them.
Record FactorSteps::solve_together(const Item& item) {
  if (!grid_) grid_ = std::make_unique<GridSolver>(comm_, reader_, options_, log_, memory_);
  Record record;
  const Solved solved = grid_->solve(item, record.timing, times_);
  describe(item, solved, record);
  on_root(comm_, [&] {
    const Timer start;
    target_.write(record.key.name, item.matrix.number, target_.parts(record.key.name, solved, {}), record);
    target_.sync();
    record.timing.write = start.seconds();
  });
  times_.solving += record.timing.svd;
  times_.reading += record.timing.read;
  times_.writing += record.timing.write;
  std::array<double, 1> read{static_cast<double>(record.timing.bytes_read)};
  comm_.sum(read);
  record.timing.bytes_read = static_cast<std::uint64_t>(read[0]);
  return record;
}

}  // namespace lox
