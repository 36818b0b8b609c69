// SPDX-License-Identifier: MIT
#include "lox/run/grid_pipeline.hpp"

namespace lox {

std::vector<Record> run_on_grid(const Comm& comm, GridSteps& steps, Journal& journal,
                                const std::vector<Item>& items, Progress& progress, Counts& counts) {
  std::vector<Record> records;
  for (const Item& item : items) {
    if (item.where != Where::grid) continue;
    progress.update(counts);
    if (comm.max(progress.stop_urgency()) > 0) break;
    Record record = steps.solve_together(item);
    if (!comm.is_root()) continue;
    counts.bytes += record.timing.bytes_read + record.timing.bytes_written;
    ++counts.items;
    records.push_back(std::move(record));
    journal.append(std::span(records).last(1));
  }
  return records;
}

}  // namespace lox
