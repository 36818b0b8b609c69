// SPDX-License-Identifier: MIT
#include "lox/run/local_pipeline.hpp"

#include "lox/base/error.hpp"
#include "lox/base/fault.hpp"
#include "lox/base/queue.hpp"
#include "lox/base/stop.hpp"
#include "lox/base/timer.hpp"
#include "lox/linalg/libraries.hpp"
#include "lox/plan/cost.hpp"
#include "lox/run/solve.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

namespace lox {
namespace {

template <class Loop>
std::jthread start(Loop loop) {
  try {
    return std::jthread(loop);
  } catch (const std::system_error& error) {
    fail(ExitCode::internal, "cannot start a thread: {}; raise the limit of processes (ulimit -u)",
         error.what());
  }
}

}  // namespace

/// One run: the queues between the three threads and what they count.
struct LocalPipeline::Run {
  Run(LocalPipeline& owner, const std::vector<Item>& mine)
      : steps(owner.steps_), items(mine), gate(owner.memory_) {}

  void read_all();
  void write_all();
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

  LocalSteps& steps;
  const std::vector<Item>& items;
  MemoryGate gate;
  Queue<Parcel> read_queue{1};
  Queue<Parcel> write_queue{2};
  std::atomic<bool> stopping{false};
  std::mutex failure_mutex;
  std::exception_ptr failure;
  std::vector<Record> finished;     // writer's
  std::vector<Record> uncommitted;  // written, not yet synced: writer's
  std::uint64_t uncommitted_bytes = 0;
  double seconds_reading = 0;  // reader's
  double seconds_writing = 0;  // writer's
  std::atomic<std::uint64_t> bytes_done{0};
  std::atomic<std::int64_t> items_done{0};
};

void LocalPipeline::Run::read_all() {
  set_threads_here(1);  // the cores belong to the solver
  for (const Item& item : items) {
    if (stopping) break;
    const std::uint64_t memory = steps.memory(item);
    if (!gate.acquire(memory) || stopping) break;
    Parcel parcel;
    parcel.item = item;
    parcel.held = memory;
    if (item.action == Action::edit) {
      const Timer start;
      steps.read(parcel);
      parcel.record.timing.read = start.seconds();
      seconds_reading += parcel.record.timing.read;
    }
    if (!read_queue.push(std::move(parcel))) break;
  }
  read_queue.close();
}

void LocalPipeline::Run::release(Parcel& parcel, std::uint64_t bytes) {
  gate.release(bytes);
  parcel.held -= bytes;
}

void LocalPipeline::Run::write_all() {
  for (;;) {
    std::optional<Parcel> parcel = write_queue.pop(std::chrono::milliseconds(200));
    if (!parcel) {
      commit();
      if (write_queue.finished()) return;
      continue;
    }
    const Timer start;
    steps.write(*parcel);
    seconds_writing += start.seconds();
    uncommitted_bytes += parcel->record.timing.bytes_written;
    uncommitted.push_back(std::move(parcel->record));
    parcel->edited.clear();
    release(*parcel, parcel->held);
    if (uncommitted_bytes >= (std::uint64_t{64} << 20)) commit();
  }
}

/// Bytes to disk first, then the lines that vouch for them.
void LocalPipeline::Run::commit() {
  if (uncommitted.empty()) return;
  const Timer start;
  steps.commit(uncommitted);
  seconds_writing += start.seconds();
  for (Record& record : uncommitted) {
    bytes_done += record.timing.bytes_read + record.timing.bytes_written;
    ++items_done;
    finished.push_back(std::move(record));
  }
  uncommitted.clear();
  uncommitted_bytes = 0;
}

/// The item for the second turn, by the exact method, if there is memory for it.
Item LocalPipeline::once_more(const Parcel& parcel) const {
  const std::uint64_t needed = local_cost(parcel.item).exact_memory;
  if (needed > memory_) {
    throw Error(ExitCode::not_certified, no_memory_for_exact(parcel.record.key.name, needed + program_memory,
                                                             memory_ + program_memory));
  }
  return by_exact_method(parcel.item);
}

std::vector<Record> LocalPipeline::run(const std::vector<Item>& items, Progress& progress, Counts& counts,
                                       WorkTimes& times) {
  std::vector<Item> failed;
  std::vector<Record> finished = run_once(items, failed, progress, counts, times);
  if (!failed.empty() && progress.stop_urgency() == 0) {
    std::vector<Item> none;
    for (Record& record : run_once(failed, none, progress, counts, times))
      finished.push_back(std::move(record));
  }
  return finished;
}

std::vector<Record> LocalPipeline::run_once(const std::vector<Item>& items, std::vector<Item>& failed,
                                            Progress& progress, Counts& counts, WorkTimes& times) {
  Run run(*this, items);
  const Counts before = counts;
  const auto report = [&] {
    counts.bytes = before.bytes + run.bytes_done;
    counts.items = before.items + run.items_done;
    progress.update(counts);
  };
  std::jthread reader;
  std::jthread writer;
  run.guarded([&] {
    reader = start([&] { run.guarded([&] { run.read_all(); }); });
    writer = start([&] { run.guarded([&] { run.write_all(); }); });
    while (!run.read_queue.finished()) {
      report();
      if (progress.stop_urgency() > 0) {
        run.stop();
        break;
      }
      Timer waiting;
      std::optional<Parcel> parcel = run.read_queue.pop(std::chrono::milliseconds(100));
      times.waiting += waiting.seconds();
      if (!parcel) continue;
      if (parcel->item.action == Action::edit) {
        const Timer start;
        fault_point("item");
        const bool solved = steps_.solve(*parcel);
        note_item_seconds(start.seconds());
        times.solving += start.seconds();
        parcel->rows = RowSlab();
        if (!solved) {
          run.release(*parcel, parcel->held);
          failed.push_back(once_more(*parcel));
          continue;
        }
        std::uint64_t kept = 0;
        for (const Buffer& buffer : parcel->edited) kept += buffer.size();
        run.release(*parcel, parcel->held - std::min(parcel->held, kept));
      }
      waiting = Timer();
      if (!run.write_queue.push(std::move(*parcel))) break;
      times.waiting += waiting.seconds();
    }
  });
  const Timer waiting;
  run.write_queue.close();
  for (std::jthread* thread : {&reader, &writer}) {
    if (thread->joinable()) thread->join();
  }
  times.waiting += waiting.seconds();
  times.reading += run.seconds_reading;
  times.writing += run.seconds_writing;
  report();
  if (run.failure) std::rethrow_exception(run.failure);
  return std::move(run.finished);
}

}  // namespace lox
