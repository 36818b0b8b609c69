// SPDX-License-Identifier: MIT
#include "lox/run/local_work.hpp"

#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"
#include "lox/base/queue.hpp"
#include "lox/base/stop.hpp"
#include "lox/base/timer.hpp"
#include "lox/linalg/libraries.hpp"
#include "lox/plan/cost.hpp"
#include "lox/run/edit.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

namespace lox {
namespace {

constexpr std::size_t bytes_at_once = std::size_t{32} << 20;

}  // namespace

/// One run: the queues between the three threads and what they count.
struct LocalWork::Pipeline {
  /// An item on its way; `slab` is empty for copies.
  struct Parcel {
    WorkItem item;
    RowSlab slab;
    TensorRecord record;
    std::uint64_t held = 0;  ///< bytes of the memory gate
  };

  Pipeline(LocalWork& owner, const std::vector<WorkItem>& mine)
      : work(owner), items(mine), gate(owner.memory_) {}

  void read_all();
  void write_all();
  void write(Parcel& parcel);
  void copy(Parcel& parcel);
  void commit();
  void release(Parcel& parcel, std::uint64_t bytes);

  /// No further items: what is finished is still written.
  void stop() {
    stopping = true;
    read_queue.cancel();
    gate.close();
  }

  /// Runs one thread's loop; its failure ends the others.
  template <class Loop>
  void guarded(Loop loop) noexcept {
    try {
      loop();
    } catch (const Stopped&) {  // the item in hand is dropped
      stop();
    } catch (...) {
      {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
      }
      cancel();
    }
  }
  void cancel() {
    read_queue.cancel();
    write_queue.cancel();
    gate.close();
  }

  LocalWork& work;
  const std::vector<WorkItem>& items;
  MemoryGate gate;
  Queue<Parcel> read_queue{1};
  Queue<Parcel> write_queue{2};
  std::atomic<bool> stopping{false};
  std::mutex failure_mutex;
  std::exception_ptr failure;
  std::vector<TensorRecord> finished;     // writer's
  std::vector<TensorRecord> uncommitted;  // written, not yet synced: writer's
  std::set<int> unsynced_files;
  std::uint64_t uncommitted_bytes = 0;
  double seconds_reading = 0;  // reader's
  double seconds_writing = 0;  // writer's
  std::atomic<std::uint64_t> bytes_done{0};
  std::atomic<std::int64_t> items_done{0};
};

void LocalWork::Pipeline::read_all() {
  set_threads_here(1);  // the cores belong to the solver
  for (const WorkItem& item : items) {
    if (stopping) break;
    const std::uint64_t memory = local_cost(item).memory;
    if (!gate.acquire(memory) || stopping) break;
    Parcel parcel;
    parcel.item = item;
    parcel.held = memory;
    if (item.action == Action::edit) {
      const Timer start;
      parcel.slab = work.files_.read_rows(item, 0, item.rows);
      parcel.record.seconds_read = start.seconds();
      seconds_reading += parcel.record.seconds_read;
    }
    if (!read_queue.push(std::move(parcel))) break;
  }
  read_queue.close();
}

void LocalWork::Pipeline::release(Parcel& parcel, std::uint64_t bytes) {
  gate.release(bytes);
  parcel.held -= bytes;
}

void LocalWork::Pipeline::write_all() {
  for (;;) {
    std::optional<Parcel> parcel = write_queue.pop(std::chrono::milliseconds(200));
    if (!parcel) {
      commit();
      if (write_queue.finished()) return;
      continue;
    }
    const Timer start;
    if (parcel->item.action == Action::copy) {
      copy(*parcel);
    } else {
      write(*parcel);
    }
    seconds_writing += start.seconds();
    uncommitted_bytes += parcel->record.bytes_written;
    unsynced_files.insert(work.files_.output_of(parcel->item).extent.file);
    uncommitted.push_back(std::move(parcel->record));
    parcel->slab.aligned = Buffer();
    release(*parcel, parcel->held);
    if (uncommitted_bytes >= (std::uint64_t{64} << 20)) commit();
  }
}

void LocalWork::Pipeline::write(Parcel& parcel) {
  const Timer start;
  const std::span<const std::byte> bytes = parcel.slab.aligned.bytes();
  work.files_.write_rows(parcel.item, 0, bytes);
  parcel.record.pieces = {{work.files_.row_offset(parcel.item, 0), bytes.size(), checksum(bytes)}};
  parcel.record.bytes_written = bytes.size();
  parcel.record.seconds_write = start.seconds();
}

void LocalWork::Pipeline::copy(Parcel& parcel) {
  const TensorInfo& source = work.files_.aligned_of(parcel.item);
  const Extent& target = work.files_.output_of(parcel.item).extent;
  TensorRecord& record = parcel.record;
  Buffer buffer(std::min<std::uint64_t>(target.bytes, bytes_at_once), File::page_shift(target.offset));
  for (std::uint64_t first = 0; first < target.bytes; first += bytes_at_once) {
    const std::span<std::byte> bytes =
        buffer.bytes().first(std::min<std::uint64_t>(bytes_at_once, target.bytes - first));
    Timer start;
    work.files_.aligned().read(source, first, bytes);
    record.seconds_read += start.seconds();
    start = Timer();
    work.files_.output().write(target, first, bytes);
    record.pieces.push_back({first, bytes.size(), checksum(bytes)});
    record.seconds_write += start.seconds();
  }
  record.name = source.name;
  record.entries = source.elements();
  record.bytes_read = target.bytes;
  record.bytes_written = target.bytes;
}

/// Bytes to disk first, then the lines that vouch for them.
void LocalWork::Pipeline::commit() {
  if (uncommitted.empty()) return;
  const Timer start;
  for (const int file : unsynced_files) work.files_.output().sync(Extent{file, 0, 0});
  work.journal_.append(uncommitted);
  seconds_writing += start.seconds();
  for (TensorRecord& record : uncommitted) {
    bytes_done += record.bytes_read + record.bytes_written;
    ++items_done;
    finished.push_back(std::move(record));
  }
  uncommitted.clear();
  unsynced_files.clear();
  uncommitted_bytes = 0;
}

/// The item for the second turn, by the exact method, if there is memory for it.
WorkItem LocalWork::once_more(const WorkItem& item) const {
  const std::uint64_t needed = local_cost(item).exact_memory;
  if (needed > memory_) {
    throw Error(ExitCode::not_certified, no_memory_for_exact(files_.aligned_of(item), needed + program_memory,
                                                             memory_ + program_memory));
  }
  return by_exact_method(item);
}

std::vector<TensorRecord> LocalWork::run(const std::vector<WorkItem>& items, Progress& progress,
                                         Progress::Counts& counts, WorkTimes& times) {
  std::vector<WorkItem> failed;
  std::vector<TensorRecord> finished = run_once(items, failed, progress, counts, times);
  if (!failed.empty() && progress.stop_urgency() == 0) {
    std::vector<WorkItem> none;
    for (TensorRecord& record : run_once(failed, none, progress, counts, times))
      finished.push_back(std::move(record));
  }
  return finished;
}

std::vector<TensorRecord> LocalWork::run_once(const std::vector<WorkItem>& items,
                                              std::vector<WorkItem>& failed, Progress& progress,
                                              Progress::Counts& counts, WorkTimes& times) {
  Pipeline pipeline(*this, items);
  const Progress::Counts before = counts;
  const auto tell = [&] {
    counts.bytes = before.bytes + pipeline.bytes_done;
    counts.items = before.items + pipeline.items_done;
    progress.update(counts);
  };
  std::thread reader([&] { pipeline.guarded([&] { pipeline.read_all(); }); });
  std::thread writer([&] { pipeline.guarded([&] { pipeline.write_all(); }); });
  pipeline.guarded([&] {
    while (!pipeline.read_queue.finished()) {
      tell();
      if (progress.stop_urgency() > 0) {
        pipeline.stop();
        break;
      }
      Timer waiting;
      std::optional<Pipeline::Parcel> parcel = pipeline.read_queue.pop(std::chrono::milliseconds(100));
      times.waiting += waiting.seconds();
      if (!parcel) continue;
      if (parcel->item.action == Action::edit) {
        const Timer start;
        fault_point("item");
        std::optional<TensorRecord> record =
            edit_matrix(parcel->item, files_.aligned_of(parcel->item), parcel->slab, job_);
        note_item_seconds(start.seconds());
        times.solving += start.seconds();
        if (!record) {
          parcel->slab = RowSlab();
          pipeline.release(*parcel, parcel->held);
          failed.push_back(once_more(parcel->item));
          continue;
        }
        record->bytes_read = parcel->slab.bytes_read;
        record->seconds_read = parcel->record.seconds_read;
        parcel->record = std::move(*record);
        pipeline.release(*parcel,
                         parcel->held - std::min<std::uint64_t>(parcel->held, parcel->slab.aligned.size()));
      }
      waiting = Timer();
      if (!pipeline.write_queue.push(std::move(*parcel))) break;
      times.waiting += waiting.seconds();
    }
  });
  const Timer waiting;
  pipeline.write_queue.close();
  reader.join();
  writer.join();
  times.waiting += waiting.seconds();
  times.reading += pipeline.seconds_reading;
  times.writing += pipeline.seconds_writing;
  tell();
  if (pipeline.failure) std::rethrow_exception(pipeline.failure);
  return std::move(pipeline.finished);
}

}  // namespace lox
