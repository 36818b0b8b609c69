// SPDX-License-Identifier: MIT
#include "lox/run/grid_work.hpp"

#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"
#include "lox/linalg/dist_svd.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <chrono>
#include <optional>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

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

GridWork::GridWork(const Comm& comm, ModelFiles& files, const Job& job, Journal& journal)
    : comm_(comm), files_(files), job_(job), journal_(journal), everyone_(comm, {1, comm.size()}) {}

GridWork::Rows GridWork::my_rows(Index rows) const {
  const Index first = rows * comm_.rank() / comm_.size();
  return {first, rows * (comm_.rank() + 1) / comm_.size() - first};
}

DeltaSummary GridWork::sum(const DeltaSummary& mine) const {
  std::array<double, 2> sums{mine.norm_squared, mine.aligned_norm_squared};
  comm_.sum(sums);
  DeltaSummary all;
  all.norm_squared = sums[0];
  all.aligned_norm_squared = sums[1];
  all.largest = static_cast<float>(comm_.max(static_cast<double>(mine.largest)));
  return all;
}

DeltaSummary GridWork::load(const WorkItem& item, DistMatrix& transposed, TensorRecord& timing) {
  const Index slab_rows = rows_at_once(item);
  const Index band = slab_rows * comm_.size();
  DeltaSummary mine;
  for (Index first = 0; first < item.rows; first += band) {
    const Index count = std::min(band, item.rows - first);
    const Index width = (count + comm_.size() - 1) / comm_.size();
    const Index start = std::min<Index>(comm_.rank() * width, count);
    RowSlab slab;
    together(comm_, [&] {
      const auto reading = steady_clock::now();
      slab = files_.read_rows(item, first + start, std::min(width, count - start));
      timing.seconds_read += seconds_since(reading);
      timing.bytes_read += slab.bytes_read;
    });
    mine.add(slab.summary);
    slab.aligned = Buffer();
    const auto dealing = steady_clock::now();
    transposed.insert_columns(first, count, width, slab.delta.floats().data(), everyone_);
    times_.redistribution += seconds_since(dealing);
  }
  return sum(mine);
}

/// This rank's rows, from the aligned model to the output, with the edit added: from factors if there are
/// any, else of full rank.
EditSummary GridWork::write_rows(const WorkItem& item, const Factors* factors, TensorRecord& record) {
  const Rows mine = my_rows(item.rows);
  const Index at_once = rows_at_once(item);
  EditSummary summary;
  for (Index first = mine.first; first < mine.first + mine.count; first += at_once) {
    const Index count = std::min(at_once, mine.first + mine.count - first);
    auto start = steady_clock::now();
    RowSlab slab;
    if (factors != nullptr) {
      slab.aligned = files_.read_aligned(item, first, count);
      record.bytes_read += slab.aligned.size();
    } else {
      slab = files_.read_rows(item, first, count);
      record.bytes_read += slab.bytes_read;
    }
    record.seconds_read += seconds_since(start);
    start = steady_clock::now();
    if (factors == nullptr) {
      summary.add(extrapolate_full(item.dtype, slab.aligned.bytes(), slab.delta.floats(), job_.coef));
    } else {
      summary.add(extrapolate(item.dtype, slab.aligned.bytes(), factors->u.middleRows(first, count),
                              factors->sigma, factors->v, job_.coef));
    }
    record.seconds_svd += seconds_since(start);
    start = steady_clock::now();
    files_.write_rows(item, first, slab.aligned.bytes());
    record.pieces.push_back(
        {files_.row_offset(item, first), slab.aligned.size(), checksum(slab.aligned.bytes())});
    record.bytes_written += slab.aligned.size();
    record.seconds_write += seconds_since(start);
  }
  const auto start = steady_clock::now();
  files_.output().sync(files_.output_of(item).extent);
  record.seconds_write += seconds_since(start);
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
  nlohmann::json pieces = nlohmann::json::array();
  for (const Piece& piece : record.pieces) pieces.push_back({piece.first, piece.bytes, piece.xxh3});
  record.pieces.clear();
  for (const std::string& text : comm_.gather(pieces.dump())) {
    for (const nlohmann::json& piece : nlohmann::json::parse(text)) {
      record.pieces.push_back(
          {piece[0].get<std::uint64_t>(), piece[1].get<std::uint64_t>(), piece[2].get<std::uint64_t>()});
    }
  }
  if (comm_.is_root()) journal_.append({record});
}

TensorRecord GridWork::edit(const WorkItem& item) {
  const TensorInfo& tensor = files_.aligned_of(item);
  if (item.method == Method::full) {
    TensorRecord record;
    EditSummary edit;
    DeltaSummary mine;
    together(comm_, [&] { edit = write_rows(item, nullptr, record); });
    mine.norm_squared = edit.edit_squared / (job_.coef * job_.coef);
    mine.largest = edit.edit_squared > 0 ? 1 : 0;
    TensorRecord whole = start_record(item, tensor, job_, sum(mine));
    whole.pieces = std::move(record.pieces);
    whole.bytes_read = record.bytes_read;
    whole.bytes_written = record.bytes_written;
    whole.seconds_read = record.seconds_read;
    whole.seconds_svd = record.seconds_svd;
    whole.seconds_write = record.seconds_write;
    finish(item, edit, whole);
    return whole;
  }
  TensorRecord timing;
  Factors factors;
  TensorRecord record;
  {
    const ProcessGrid grid(comm_, choose_grid(comm_.size(), item.cols, item.rows));
    DistMatrix transposed(grid, item.cols, item.rows, choose_block(grid.shape(), item.cols, item.rows));
    const DeltaSummary summary = load(item, transposed, timing);
    fault_point("grid");
    const auto start = steady_clock::now();
    record = start_record(item, tensor, job_, summary);
    if (record.action == Action::edit) {
      const auto held = static_cast<std::size_t>(transposed.local_rows() * transposed.local_cols());
      const double scale = rescale({transposed.data(), held}, summary.largest);
      GridTimes spent;
      SvdResult svd = dist_svd(transposed, svd_options(record, item, tensor, job_, summary, scale), &spent);
      times_.grid.products += spent.products;
      times_.grid.communication += spent.communication;
      times_.grid.total += spent.total;
      together(comm_, [&] { add_svd(record, job_, svd, scale); });
      factors = std::move(svd.factors);
    } else {
      factors.u = Panel(item.rows, 0);
      factors.v = Panel(item.cols, 0);
    }
    record.seconds_svd = seconds_since(start);
  }
  record.seconds_read = timing.seconds_read;
  record.bytes_read = timing.bytes_read;
  const EditSummary edit = write_rows(item, &factors, record);
  times_.solving += record.seconds_svd;
  times_.reading += record.seconds_read;
  times_.writing += record.seconds_write;
  finish(item, edit, record);
  return record;
}

}  // namespace lox
