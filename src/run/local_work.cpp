// SPDX-License-Identifier: MIT
#include "lox/run/local_work.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "lox/base/buffer.hpp"
#include "lox/base/queue.hpp"
#include "lox/plan/cost.hpp"
#include "lox/run/edit.hpp"

namespace lox {
namespace {

using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

constexpr std::size_t bytes_at_once = std::size_t{32} << 20;

}  // namespace

/// One run: the queues between the three threads and what they count.
struct LocalWork::Pipeline {
  /// An item on its way; `pair` is empty for copies.
  struct Parcel {
    WorkItem item;
    MatrixPair pair;
    TensorRecord record;
    std::uint64_t held = 0;  ///< bytes of the memory gate
  };

  Pipeline(LocalWork& owner, const std::vector<WorkItem>& mine) : work(owner), items(mine), gate(owner.memory_) {}

  const TensorInfo& base_of(const WorkItem& item) const {
    return work.models_.base.tensors[static_cast<std::size_t>(work.plan_.base_of[static_cast<std::size_t>(item.tensor)])];
  }
  const TensorInfo& aligned_of(const WorkItem& item) const {
    return work.models_.aligned.tensors[static_cast<std::size_t>(item.tensor)];
  }

  void read_all();
  Parcel read(const WorkItem& item);
  void write_all();
  void write(Parcel& parcel);
  void copy(Parcel& parcel);
  void commit();
  void release(Parcel& parcel, std::uint64_t bytes);

  /// Runs one thread's loop; its failure ends the others.
  template <class Loop>
  void guarded(Loop loop) noexcept {
    try {
      loop();
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
  std::vector<TensorRecord> finished;   // writer's
  std::vector<TensorRecord> uncommitted;  // written, not yet synced: writer's
  std::set<int> unsynced_files;
  std::uint64_t uncommitted_bytes = 0;
  std::atomic<std::uint64_t> bytes_done{0};
  std::atomic<std::int64_t> items_done{0};
};

void LocalWork::Pipeline::read_all() {
  for (const WorkItem& item : items) {
    if (stopping) break;
    Parcel parcel;
    std::uint64_t memory = bytes_at_once;
    if (item.action == Action::edit) {
      memory = local_cost(item.rows, item.cols, aligned_of(item).dtype, base_of(item).dtype, work.job_.k, item.method)
                   .memory;
    }
    if (!gate.acquire(memory) || stopping) break;
    parcel = read(item);
    parcel.held = memory;
    if (!read_queue.push(std::move(parcel))) break;
  }
  read_queue.close();
}

LocalWork::Pipeline::Parcel LocalWork::Pipeline::read(const WorkItem& item) {
  Parcel parcel;
  parcel.item = item;
  const TensorInfo& aligned = aligned_of(item);
  parcel.record.name = aligned.name;
  if (item.action == Action::copy) return parcel;
  const auto start = steady_clock::now();
  const TensorInfo& base = base_of(item);
  MatrixPair& pair = parcel.pair;
  pair.name = aligned.name;
  pair.matrix = item.matrix;
  pair.rows = item.rows;
  pair.cols = item.cols;
  pair.aligned_dtype = aligned.dtype;
  pair.base_dtype = base.dtype;
  const auto fetch = [&](Storage& storage, const TensorInfo& tensor, Buffer& buffer) {
    const auto bytes = static_cast<std::uint64_t>(item.rows * item.cols * dtype_bits(tensor.dtype) / 8);
    buffer = Buffer(bytes);
    storage.read(tensor, static_cast<std::uint64_t>(item.matrix) * bytes, buffer.bytes());
  };
  fetch(work.aligned_, aligned, pair.aligned);
  fetch(work.base_, base, pair.base);
  parcel.record.bytes_read = pair.aligned.size() + pair.base.size();
  parcel.record.seconds_read = seconds_since(start);
  return parcel;
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
    if (parcel->item.action == Action::copy) {
      copy(*parcel);
    } else {
      write(*parcel);
    }
    uncommitted_bytes += parcel->record.bytes_written;
    unsynced_files.insert(work.models_.output.tensors[static_cast<std::size_t>(parcel->item.tensor)].extent.file);
    uncommitted.push_back(std::move(parcel->record));
    parcel->pair.aligned = Buffer();
    release(*parcel, parcel->held);
    if (uncommitted_bytes >= (std::uint64_t{64} << 20)) commit();
  }
}

void LocalWork::Pipeline::write(Parcel& parcel) {
  const auto start = steady_clock::now();
  const TensorInfo& target = work.models_.output.tensors[static_cast<std::size_t>(parcel.item.tensor)];
  const std::span<const std::byte> bytes = parcel.pair.aligned.bytes();
  const std::uint64_t first = static_cast<std::uint64_t>(parcel.item.matrix) * bytes.size();
  work.output_.write(target.extent, first, bytes);
  parcel.record.pieces = {{first, bytes.size(), checksum(bytes)}};
  parcel.record.bytes_written = bytes.size();
  parcel.record.seconds_write = seconds_since(start);
}

void LocalWork::Pipeline::copy(Parcel& parcel) {
  const TensorInfo& source = aligned_of(parcel.item);
  const TensorInfo& target = work.models_.output.tensors[static_cast<std::size_t>(parcel.item.tensor)];
  const std::uint64_t all = target.extent.bytes;
  Buffer buffer(std::min<std::uint64_t>(all, bytes_at_once));
  for (std::uint64_t first = 0; first < all; first += bytes_at_once) {
    const std::span<std::byte> bytes = buffer.bytes().first(std::min<std::uint64_t>(bytes_at_once, all - first));
    auto start = steady_clock::now();
    work.aligned_.read(source, first, bytes);
    parcel.record.seconds_read += seconds_since(start);
    start = steady_clock::now();
    work.output_.write(target.extent, first, bytes);
    parcel.record.pieces.push_back({first, bytes.size(), checksum(bytes)});
    parcel.record.seconds_write += seconds_since(start);
  }
  parcel.record.entries = source.elements();
  parcel.record.bytes_read = all;
  parcel.record.bytes_written = all;
}

/// Bytes to disk first, then the lines that vouch for them.
void LocalWork::Pipeline::commit() {
  if (uncommitted.empty()) return;
  for (const int file : unsynced_files) work.output_.sync(Extent{file, 0, 0});
  work.journal_.append(uncommitted);
  for (TensorRecord& record : uncommitted) {
    bytes_done += record.bytes_read + record.bytes_written;
    ++items_done;
    finished.push_back(std::move(record));
  }
  uncommitted.clear();
  unsynced_files.clear();
  uncommitted_bytes = 0;
}

LocalWork::LocalWork(const Models& models, const Plan& plan, const Job& job, Journal& journal, std::uint64_t memory)
    : models_(models), plan_(plan), job_(job), journal_(journal), memory_(memory),
      base_(models.base, Storage::Access::read), aligned_(models.aligned, Storage::Access::read),
      output_(models.output, Storage::Access::write) {}

LocalWork::~LocalWork() = default;

std::vector<TensorRecord> LocalWork::run(const std::vector<WorkItem>& items, Progress& progress,
                                         Progress::Counts& counts) {
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
        pipeline.stopping = true;
        pipeline.read_queue.cancel();
        pipeline.gate.close();
        break;
      }
      std::optional<Pipeline::Parcel> parcel = pipeline.read_queue.pop(std::chrono::milliseconds(100));
      if (!parcel) continue;
      if (parcel->item.action == Action::edit) {
        TensorRecord record = edit_matrix(parcel->pair, job_, parcel->item.method);
        record.bytes_read = parcel->record.bytes_read;
        record.seconds_read = parcel->record.seconds_read;
        parcel->record = std::move(record);
        pipeline.release(*parcel, parcel->held - std::min<std::uint64_t>(parcel->held, parcel->pair.aligned.size()));
      }
      if (!pipeline.write_queue.push(std::move(*parcel))) break;
    }
  });
  pipeline.write_queue.close();
  reader.join();
  writer.join();
  tell();
  if (pipeline.failure) std::rethrow_exception(pipeline.failure);
  return std::move(pipeline.finished);
}

std::uint64_t item_bytes(const Models& models, const Plan& plan, const WorkItem& item) {
  const TensorInfo& aligned = models.aligned.tensors[static_cast<std::size_t>(item.tensor)];
  if (item.action == Action::copy) return 2 * aligned.extent.bytes;
  const TensorInfo& base =
      models.base.tensors[static_cast<std::size_t>(plan.base_of[static_cast<std::size_t>(item.tensor)])];
  return static_cast<std::uint64_t>(item.rows * item.cols) *
         static_cast<std::uint64_t>(2 * dtype_bits(aligned.dtype) + dtype_bits(base.dtype)) / 8;
}

}  // namespace lox
