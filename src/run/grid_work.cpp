// SPDX-License-Identifier: MIT
#include "lox/run/grid_work.hpp"

#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"
#include "lox/base/timer.hpp"
#include "lox/base/units.hpp"
#include "lox/linalg/dist_svd.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// Runs an action that may find bad input on this rank, and lets all ranks throw it if it does. Other
/// failures go up to MPI_Abort at once. Collective.
template <class Action>
void together(const Comm& comm, Action&& action) {
  std::optional<Error> failure;
  try {
    action();
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_input && error.code() != ExitCode::not_certified) throw;
    failure = error;
  }
  agree(comm, failure);
}

/// Rows whose delta is about `grid_band_bytes`.
Index rows_at_once(const WorkItem& item) {
  return std::max<Index>(1, static_cast<Index>(grid_band_bytes / sizeof(float)) / item.cols);
}

}  // namespace

GridWork::GridWork(const Comm& comm, ModelFiles& files, const Job& job, Journal& journal, const Log& log,
                   std::uint64_t memory)
    : comm_(comm),
      files_(files),
      job_(job),
      journal_(journal),
      log_(log),
      memory_(memory),
      everyone_(comm, {1, comm.size()}) {}

/// Says what p?gesvd will cost, or throws if there is no memory for it.
void GridWork::announce_exact(const WorkItem& item) const {
  const Cost cost = grid_cost(by_exact_method(item), comm_.size());
  const std::uint64_t needed = cost.memory + program_memory;
  const TensorInfo& tensor = files_.aligned_of(item);
  if (needed > memory_)
    throw SharedError(ExitCode::not_certified, no_memory_for_exact(tensor, needed, memory_));
  log_.warn("tensor '{}': {}; p?gesvd of {} x {} begins: about {}, {} a rank", tensor.name,
            item.method == Method::exact
                ? "the exact method was asked for"
                : "the Krylov method did not reach what --tolerance and --proof ask for",
            item.rows, item.cols, format_seconds(cost.seconds), format_bytes(static_cast<double>(needed)));
}

GridWork::Rows GridWork::my_rows(Index rows) const {
  const Index first = rows * comm_.rank() / comm_.size();
  return {first, rows * (comm_.rank() + 1) / comm_.size() - first};
}

DeltaSummary GridWork::sum(const DeltaSummary& mine) const {
  std::array<double, 3> sums{mine.norm_squared, mine.inverse_ulps, mine.sampled};
  comm_.sum(sums);
  DeltaSummary all;
  all.norm_squared = sums[0];
  all.inverse_ulps = sums[1];
  all.sampled = sums[2];
  all.vanished = comm_.max(mine.vanished ? 1 : 0) > 0;
  all.largest = static_cast<float>(comm_.max(static_cast<double>(mine.largest)));
  return all;
}

DeltaSummary GridWork::load(const WorkItem& item, DistMatrix& transposed, PairContent& content,
                            TensorRecord& timing) {
  const Index slab_rows = rows_at_once(item);
  const Index band = slab_rows * comm_.size();
  DeltaSummary mine;
  for (Index first = 0; first < item.rows; first += band) {
    const Index count = std::min(band, item.rows - first);
    const Index width = (count + comm_.size() - 1) / comm_.size();
    const Index start = std::min<Index>(comm_.rank() * width, count);
    RowSlab slab;
    together(comm_, [&] {
      const Timer reading;
      slab = files_.read_rows(item, first + start, std::min(width, count - start));
      timing.seconds_read += reading.seconds();
      timing.bytes_read += slab.bytes_read;
    });
    mine.add(slab.summary);
    content.add(slab.content);
    slab.aligned = Buffer();
    const Timer dealing;
    transposed.insert_columns(first, count, width, slab.delta.floats().data(), everyone_);
    times_.redistribution += dealing.seconds();
  }
  for (Content* side : {&content.aligned, &content.base}) comm_.sum(std::span(side->sums));
  return sum(mine);
}

/// This rank's rows, from the aligned model to the output, with the edit added: from factors if there are
/// any, else of full rank, when `delta` gathers what is found of the delta on the way.
EditSummary GridWork::write_rows(const WorkItem& item, const Factors* factors, TensorRecord& record,
                                 DeltaSummary& delta) {
  const Rows mine = my_rows(item.rows);
  const Index at_once = rows_at_once(item);
  EditSummary summary;
  for (Index first = mine.first; first < mine.first + mine.count; first += at_once) {
    const Index count = std::min(at_once, mine.first + mine.count - first);
    Timer start;
    RowSlab slab;
    if (factors != nullptr) {
      slab.aligned = files_.read_aligned(item, first, count);
      record.bytes_read += slab.aligned.size();
    } else {
      slab = files_.read_rows(item, first, count);
      delta.add(slab.summary);
      record.bytes_read += slab.bytes_read;
    }
    record.seconds_read += start.seconds();
    start = Timer();
    if (factors == nullptr) {
      summary.add(extrapolate_full(item.dtype, slab.aligned.bytes(), slab.delta.floats(), job_.coef));
    } else {
      summary.add(extrapolate(item.dtype, slab.aligned.bytes(), factors->u.middleRows(first, count),
                              factors->sigma, factors->v, job_.coef));
    }
    record.seconds_svd += start.seconds();
    start = Timer();
    files_.write_rows(item, first, slab.aligned.bytes());
    record.pieces.push_back(
        {files_.row_offset(item, first), slab.aligned.size(), checksum(slab.aligned.bytes())});
    record.bytes_written += slab.aligned.size();
    record.seconds_write += start.seconds();
  }
  const Timer start;
  files_.output().sync(files_.output_of(item).extent);
  record.seconds_write += start.seconds();
  return summary;
}

/// Adds up what the ranks did; rank 0 vouches for it once every rank's bytes are on disk.
void GridWork::finish(const WorkItem& item, const EditSummary& edit, TensorRecord& record) {
  std::array<double, 5> sums{edit.edit_squared, edit.realised_dot, static_cast<double>(edit.changed),
                             static_cast<double>(record.bytes_read),
                             static_cast<double>(record.bytes_written)};
  comm_.sum(sums);
  EditSummary all;
  all.edit_squared = sums[0];
  all.realised_dot = sums[1];
  all.changed = static_cast<std::int64_t>(sums[2]);
  all.finite = comm_.max(edit.finite ? 0 : 1) == 0;
  record.bytes_read = static_cast<std::uint64_t>(sums[3]);
  record.bytes_written = static_cast<std::uint64_t>(sums[4]);
  together(comm_, [&] {
    if (record.action == Action::edit) add_edit(record, files_.aligned_of(item), all);
  });
  const std::string mine = pieces_to_json(record.pieces).dump();
  record.pieces.clear();
  for (const std::string& text : comm_.gather(mine)) {
    for (const Piece& piece : pieces_from_json(nlohmann::json::parse(text))) record.pieces.push_back(piece);
  }
  if (comm_.is_root()) journal_.append({record});
}

TensorRecord GridWork::edit(const WorkItem& item) {
  const TensorInfo& tensor = files_.aligned_of(item);
  if (item.method == Method::full) {
    TensorRecord record = start_record(item, tensor, job_, {});
    EditSummary edit;
    DeltaSummary mine;
    together(comm_, [&] { edit = write_rows(item, nullptr, record, mine); });
    add_delta(record, sum(mine));
    finish(item, edit, record);
    return record;
  }
  TensorRecord timing;
  Factors factors;
  TensorRecord record;
  {
    const ProcessGrid grid(comm_, choose_grid(comm_.size(), item.cols, item.rows));
    DistMatrix transposed(grid, item.cols, item.rows, choose_block(grid.shape(), item.cols, item.rows));
    PairContent content;
    const DeltaSummary summary = load(item, transposed, content, timing);
    fault_point("grid");
    const Timer start;
    record = start_record(item, tensor, job_, summary);
    if (record.action == Action::edit) {
      const auto held = static_cast<std::size_t>(transposed.local_rows() * transposed.local_cols());
      const double scale = rescale({transposed.data(), held}, summary.largest);
      GridTimes spent;
      SvdResult svd = dist_svd(transposed, svd_options(record, item, tensor, job_, summary, content, scale),
                               &spent, [&] { announce_exact(item); });
      times_.grid.products += spent.products;
      times_.grid.communication += spent.communication;
      times_.grid.total += spent.total;
      together(comm_, [&] { add_svd(record, job_, svd, scale); });
      factors = std::move(svd.factors);
    } else {
      factors.u = Small(item.rows, 0);
      factors.v = Small(item.cols, 0);
    }
    record.seconds_svd = start.seconds();
  }
  record.seconds_read = timing.seconds_read;
  record.bytes_read = timing.bytes_read;
  DeltaSummary unused;
  const EditSummary edit = write_rows(item, &factors, record, unused);
  times_.solving += record.seconds_svd;
  times_.reading += record.seconds_read;
  times_.writing += record.seconds_write;
  finish(item, edit, record);
  return record;
}

}  // namespace lox
