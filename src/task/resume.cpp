// SPDX-License-Identifier: MIT
#include "lox/task/resume.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/checksum.hpp"
#include "lox/io/pages.hpp"
#include "lox/run/journal.hpp"

#include <cstring>
#include <deque>
#include <set>
#include <string_view>
#include <tuple>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

std::string to_lines(const std::vector<Record>& records) {
  std::string lines;
  for (const Record& record : records) lines += record_to_json(record).dump() + "\n";
  return lines;
}

/// Whether the bytes of a piece, its edges taken from the journal, are what was written.
bool is_intact(const Piece& piece, const std::vector<Edge>& edges, const Checkpoint& output, Storage& storage,
               EdgeReader& waiting) {
  if (piece.tensor < 0 || static_cast<std::size_t>(piece.tensor) >= output.tensors.size()) return false;
  const Extent& extent = output.tensors[static_cast<std::size_t>(piece.tensor)].extent;
  if (piece.first > extent.bytes || piece.bytes > extent.bytes - piece.first) return false;
  Buffer buffer(piece.bytes);
  storage.read(extent, piece.first, buffer.bytes());
  for (const Edge& edge : edges) {
    const bool inside = edge.target == piece.target && edge.tensor == piece.tensor &&
                        edge.first >= piece.first && edge.first - piece.first <= piece.bytes &&
                        edge.bytes <= piece.bytes - (edge.first - piece.first);
    if (!inside) continue;
    const std::vector<std::byte> bytes = waiting.read(edge);
    std::memcpy(buffer.data() + (edge.first - piece.first), bytes.data(), bytes.size());
  }
  return checksum(buffer.bytes()) == piece.xxh3;
}

}  // namespace

std::vector<Record> broadcast_records(const Comm& comm, std::vector<Record> records) {
  const std::string lines = comm.broadcast(comm.is_root() ? to_lines(records) : "");
  return comm.is_root() ? std::move(records) : Journal::parse(lines);
}

std::vector<Record> gather_records(const Comm& comm, const std::vector<Record>& mine) {
  std::vector<Record> all;
  for (const std::string& lines : comm.gather(to_lines(mine))) {
    for (Record& record : Journal::parse(lines)) all.push_back(std::move(record));
  }
  return all;
}

void drop_finished(std::vector<Item>& items, const Checkpoint& aligned, const std::vector<Record>& finished) {
  std::set<std::tuple<std::string_view, std::int64_t, std::int64_t>> keys;
  for (const Record& record : finished) keys.emplace(record.key.name, record.key.matrix, record.key.row);
  std::erase_if(items, [&](const Item& item) {
    const auto tensor = static_cast<std::size_t>(item.matrix.tensor(aligned_model));
    return keys.contains({aligned.tensors[tensor].name, item.matrix.number, item.rows.first});
  });
}

std::vector<Record> recheck(const Comm& comm, const std::vector<Checkpoint>& outputs, const fs::path& journal,
                            std::vector<Record> finished, const Log& log) {
  std::deque<FileStorage> storages;
  for (const Checkpoint& output : outputs) storages.emplace_back(output, FileStorage::Access::read);
  EdgeReader edges(journal);
  std::vector<double> bad(finished.size(), 0.0);
  together(comm, [&] {
    for (std::size_t i = 0; i < finished.size(); ++i) {
      if (static_cast<int>(i % static_cast<std::size_t>(comm.size())) != comm.rank()) continue;
      for (const Piece& piece : finished[i].pieces) {
        const auto target = static_cast<std::size_t>(piece.target);
        const bool known = piece.target >= 0 && target < outputs.size();
        if (!known || !is_intact(piece, finished[i].edges, outputs[target], storages[target], edges))
          bad[i] = 1;
      }
    }
  });
  comm.sum(bad);
  std::vector<Record> good;
  for (std::size_t i = 0; i < finished.size(); ++i) {
    if (bad[i] == 0) {
      good.push_back(std::move(finished[i]));
    } else {
      log.warn("tensor '{}' matrix {} is not what was written; it will be done again", finished[i].key.name,
               finished[i].key.matrix);
    }
  }
  log.info("rechecked {} finished items, {} to do again", finished.size(), finished.size() - good.size());
  return good;
}

void put_edges(const fs::path& journal, const std::vector<Record>& records,
               const std::vector<const Checkpoint*>& targets) {
  EdgeReader edges(journal);
  for (std::size_t t = 0; t < targets.size(); ++t) {
    FileStorage storage(*targets[t], FileStorage::Access::write);
    for (const Record& record : records) {
      for (const Edge& edge : record.edges) {
        if (edge.target != static_cast<int>(t)) continue;
        const Extent& extent = targets[t]->tensors.at(static_cast<std::size_t>(edge.tensor)).extent;
        put_edge(storage, extent, edge.first, edges.read(edge));
      }
    }
    storage.sync_written();
  }
}

}  // namespace lox
