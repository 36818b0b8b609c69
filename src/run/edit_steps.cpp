// SPDX-License-Identifier: MIT
#include "lox/run/edit_steps.hpp"

#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <nlohmann/json.hpp>

namespace lox {

EditSteps::EditSteps(const Comm& comm, const RowReader& reader, const SolveOptions& options,
                     std::vector<Target*> targets, Journal& journal, const Log& log, std::uint64_t memory)
    : comm_(comm),
      reader_(reader),
      options_(options),
      targets_(std::move(targets)),
      journal_(journal),
      log_(log),
      memory_(memory) {}

RecordKey EditSteps::key(const Item& item, Action action) const {
  const TensorInfo& tensor = reader_.tensor(item.matrix, aligned_model);
  const bool whole = item.action == Action::copy;
  return {tensor.name, item.matrix.number, action,
          whole ? tensor.elements() : item.matrix.rows * item.matrix.cols, 0};
}

/// With a copy of the aligned rows for each further target.
std::uint64_t EditSteps::memory(const Item& item) const {
  const std::uint64_t copies = item.action == Action::edit ? targets_.size() - 1 : 0;
  return local_cost(item).memory + copies * held_bytes(item);
}

void EditSteps::read(Parcel& parcel) {
  const MatrixRef& matrix = parcel.item.matrix;
  parcel.record.key = key(parcel.item, Action::edit);
  parcel.rows = reader_.read(matrix, 0, matrix.rows, targets_.front()->position(matrix, 0));
  parcel.record.timing.bytes_read = parcel.rows.bytes_read;
}

bool EditSteps::solve(Parcel& parcel) {
  const Timer start;
  Record& record = parcel.record;
  std::optional<Solved> solved = lox::solve(parcel.item, record.key.name, parcel.rows, options_);
  if (!solved) return false;
  record.spectrum = solved->spectrum;
  record.key.action = solved->is_zero() ? Action::copy : Action::edit;
  edit_rows(parcel, *solved, targets_);
  record.timing.svd = start.seconds();
  return true;
}

void EditSteps::write(Parcel& parcel) {
  Record& record = parcel.record;
  if (parcel.item.action == Action::copy) {
    record.key = key(parcel.item, Action::copy);
    const auto read = [&](std::uint64_t first, std::span<std::byte> to) {
      reader_.read_bytes(parcel.item.matrix, first, to);
    };
    copy_tensor(parcel.item, read, targets_, record);
    return;
  }
  const Timer start;
  for (std::size_t t = 0; t < targets_.size(); ++t) {
    const MatrixRef& matrix = parcel.item.matrix;
    targets_[t]->write(matrix, {0, matrix.rows}, 0, edited_rows(parcel.item, parcel.edited[t]), record);
  }
  record.timing.write = start.seconds();
}

/// Bytes to disk first, then the lines that vouch for them.
void EditSteps::commit(std::vector<Record>& records) {
  for (Target* target : targets_) target->sync();
  journal_.append(records);
}

/// This rank's rows, from the aligned model to the targets. If `delta` is given, Delta is read with them
/// (full rank), and what is found of it is added there.
std::vector<EditSummary> EditSteps::write_my_rows(const Item& item, const Solved& solved, Record& record,
                                                  DeltaSummary* delta) {
  const MatrixRef& matrix = item.matrix;
  const RowRange mine = grid_->my_rows(matrix.rows);
  const Index at_once = GridSolver::rows_at_once(item);
  Timing& timing = record.timing;
  std::vector<EditSummary> edits(targets_.size());
  for (Index first = mine.first; first < mine.first + mine.count; first += at_once) {
    const Index count = std::min(at_once, mine.first + mine.count - first);
    const std::uint64_t position = targets_.front()->position(matrix, first);
    Timer start;
    RowSlab slab;
    if (delta != nullptr) {
      slab = reader_.read(matrix, first, count, position);
      delta->add(slab.summary);
    } else {
      slab.aligned = reader_.read_aligned(matrix, first, count, position);
      slab.bytes_read = stored_bytes(reader_.tensor(matrix, aligned_model),
                                     static_cast<std::uint64_t>(count * matrix.cols));
    }
    timing.bytes_read += slab.bytes_read;
    timing.read += start.seconds();
    for (std::size_t t = 0; t < targets_.size(); ++t) {
      start = Timer();
      Buffer copy;
      if (t + 1 < targets_.size()) {
        copy = Buffer(slab.aligned.size());
        std::memcpy(copy.data(), slab.aligned.data(), copy.size());
      }
      const std::span<std::byte> rows = t + 1 < targets_.size() ? copy.bytes() : slab.aligned.bytes();
      edits[t].add(targets_[t]->apply(item, solved, first, rows, slab.delta.floats()));
      timing.svd += start.seconds();
      start = Timer();
      targets_[t]->write(matrix, mine, first, as_written(item, rows), record);
      timing.write += start.seconds();
    }
  }
  const Timer start;
  for (Target* target : targets_) target->sync();
  journal_.keep_edges({&record, 1});
  timing.write += start.seconds();
  return edits;
}

/// Adds up what the ranks did, on rank 0.
void EditSteps::finish_together(const Item& item, std::vector<EditSummary> edits, Record& record) {
  std::array<double, 2> bytes{static_cast<double>(record.timing.bytes_read),
                              static_cast<double>(record.timing.bytes_written)};
  comm_.sum(bytes);
  record.timing.bytes_read = static_cast<std::uint64_t>(bytes[0]);
  record.timing.bytes_written = static_cast<std::uint64_t>(bytes[1]);
  for (EditSummary& edit : edits) {
    std::array<double, 3> sums{edit.edit_squared, edit.realised_dot, static_cast<double>(edit.changed)};
    comm_.sum(sums);
    const bool finite = comm_.max(edit.finite ? 0 : 1) == 0;
    edit = {sums[0], sums[1], static_cast<std::int64_t>(sums[2]), finite};
  }
  together(comm_, [&] {
    if (record.key.action == Action::copy) return;
    for (const EditSummary& edit : edits) add_edit(record, item.dtype, edit);
  });
  const nlohmann::json mine{pieces_to_json(record.pieces), edges_to_json(record.edges)};
  record.pieces.clear();
  record.edges.clear();
  for (const std::string& text : comm_.gather(mine.dump())) {
    const nlohmann::json theirs = nlohmann::json::parse(text);
    for (const Piece& piece : pieces_from_json(theirs.at(0))) record.pieces.push_back(piece);
    for (const Edge& edge : edges_from_json(theirs.at(1))) record.edges.push_back(edge);
  }
}

Record EditSteps::solve_together(const Item& item) {
  if (!grid_) grid_ = std::make_unique<GridSolver>(comm_, reader_, options_, log_, memory_);
  Record record;
  Solved solved;
  std::vector<EditSummary> edits;
  if (item.method == Method::full) {
    solved = begin_solved(item, "", {});
    solved.largest = 1;  // known when the rows have been read; where it is 0 the edit is 0 too
    DeltaSummary mine;
    together(comm_, [&] { edits = write_my_rows(item, solved, record, &mine); });
    solved = begin_solved(item, reader_.tensor(item.matrix, aligned_model).name, grid_->sum(mine));
  } else {
    solved = grid_->solve(item, record.timing, times_);
    together(comm_, [&] { edits = write_my_rows(item, solved, record, nullptr); });
  }
  record.spectrum = solved.spectrum;
  record.key = key(item, solved.is_zero() ? Action::copy : Action::edit);
  times_.solving += record.timing.svd;
  times_.reading += record.timing.read;
  times_.writing += record.timing.write;
  finish_together(item, std::move(edits), record);
  return record;
}

}  // namespace lox
