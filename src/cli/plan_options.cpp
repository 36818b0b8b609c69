// SPDX-License-Identifier: MIT
#include "lox/cli/plan_options.hpp"

#include "lox/base/site.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/number_list.hpp"

#include <algorithm>

namespace lox {

void PlanOptions::add_to(Options& options) {
  options.add({.name = "ranks",
               .value = of_job_ ? "N,.." : "N",
               .brief = of_job_ ? "to plan for; several: a table" : "to plan for",
               .text = "to plan for; several numbers with commas between them give a table"},
              words_);
  options.add(
      {.name = "bandwidth",
       .value = "RATE",
       .brief = "of files, of all ranks together, e.g. 10GB/s",
       .text = "bytes of files a second that all ranks together move, e.g. `10GB/s`: where files decide, "
               "the predicted time follows from it",
       .fallback = "450 MB for each rank, measured on a small machine"},
      bandwidth_words_);
  options.add({.name = "json", .brief = "for programs"}, json_);
  if (!of_job_) return;
  options.add({.name = "nodes",
               .value = "N",
               .brief = "that the ranks are spread over",
               .fallback = "as many as `--ranks-per-node` asks for"},
              nodes_words_);
  options.add({.name = "ranks-per-node", .value = "N", .brief = "at most, where --nodes is not given"},
              ranks_per_node_);
  options.add({.name = "node-memory",
               .value = "BYTES",
               .brief = "memory of a node there, e.g. 256GiB",
               .text = "memory of a node there, e.g. `256GiB`: a rank gets nine tenths of its share, as in a "
                       "run. A plan knows no machine: without this option and `--memory` it says what a rank "
                       "needs, and compares it with nothing"},
              node_memory_words_);
  options.add({.name = "sbatch", .brief = "print the commands that submit this job"}, sbatch_);
  options.add({.name = "cpus-per-rank", .value = "N", .brief = "for --sbatch"}, cpus_);
}

void PlanOptions::finish() {
  ranks_ = parse_list<int>(words_, "--ranks");
  for (const int ranks : ranks_) {
    if (ranks < 1) fail(ExitCode::usage, "--ranks {} is not a number of ranks", ranks);
  }
  if (ranks_per_node_ < 1 || cpus_ < 1) {
    fail(ExitCode::usage, "--ranks-per-node and --cpus-per-rank must be positive");
  }
  if (!nodes_words_.empty()) {
    const std::vector<int> nodes = parse_list<int>(nodes_words_, "--nodes");
    nodes_ = nodes.front();
    if (nodes.size() > 1 || nodes_ < 1) {
      fail(ExitCode::usage, "--nodes '{}' is not a number of nodes", nodes_words_);
    }
  }
  if (!of_job_ && several()) fail(ExitCode::usage, "--ranks '{}' is not one number of ranks", words_);
  if (sbatch_ && several()) fail(ExitCode::usage, "--sbatch submits one job: choose one number of --ranks");
  if (!node_memory_words_.empty()) node_memory_ = parse_bytes(node_memory_words_, "--node-memory");
  if (!bandwidth_words_.empty()) {
    bandwidth_ = parse_rate(bandwidth_words_, "--bandwidth");
  }
}

int PlanOptions::nodes(int ranks) const {
  return nodes_ > 0 ? std::min(nodes_, ranks) : (ranks - 1) / ranks_per_node_ + 1;
}

PlanRequest PlanOptions::request(const std::optional<std::uint64_t>& memory) const {
  PlanRequest request;
  request.bandwidth = bandwidth_;
  for (const int ranks : ranks_) {
    std::optional<std::uint64_t> limit = memory;
    if (!limit && node_memory_) limit = share_of(*node_memory_, on_node(ranks));
    request.ways.push_back({ranks, limit, node_memory()});
  }
  return request;
}

}  // namespace lox
