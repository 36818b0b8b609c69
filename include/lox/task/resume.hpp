// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/plan/item.hpp"
#include "lox/run/record.hpp"

#include <vector>

namespace lox {

/// Rank 0's records, on all ranks. Collective.
std::vector<Record> broadcast_records(const Comm& comm, std::vector<Record> records);
/// The records of all ranks, on rank 0. Collective.
std::vector<Record> gather_records(const Comm& comm, const std::vector<Record>& mine);

/// Takes the finished items out of `items`. A record that names nothing in the model is ignored.
void drop_finished(std::vector<Item>& items, const Checkpoint& aligned, const std::vector<Record>& finished);

/// The finished records whose bytes in the outputs still have their checksums; the others are to be done
/// again. The ranks share the reading. `journal`: where the edges are. Collective.
std::vector<Record> recheck(const Comm& comm, const std::vector<Checkpoint>& outputs, const fs::path& journal,
                            std::vector<Record> finished, const Log& log);

/// Writes the edges of all records into the targets, on disk when it returns. For rank 0, when all ranks are
/// done.
void put_edges(const fs::path& journal, const std::vector<Record>& records,
               const std::vector<const Checkpoint*>& targets);

}  // namespace lox
