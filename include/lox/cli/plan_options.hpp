// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/options.hpp"
#include "lox/task/planned.hpp"

#include <optional>
#include <string>
#include <vector>

namespace lox {

/// What a plan is asked beside the options of the command that it plans. Call finish() after parsing.
class PlanOptions {
 public:
  /// `of_job`: of a task with a journal, whose plan has several numbers of ranks, nodes and sbatch besides.
  explicit PlanOptions(bool of_job) : of_job_(of_job) {}
  void add_to(Options& options);
  void finish();

  /// The ways to plan; `memory`: what the task itself was told of a rank's.
  PlanRequest request(const std::optional<std::uint64_t>& memory) const;
  int ranks() const { return ranks_.front(); }
  /// Bytes of files a second that each of `ranks()` moves.
  double bandwidth() const {
    const PlanRequest asked = request({});
    return asked.bandwidth_of(asked.ways.front());
  }
  bool json() const { return json_; }
  bool sbatch() const { return sbatch_; }
  bool several() const { return ranks_.size() > 1; }
  /// Nodes that so many ranks are spread over, and how many ranks one of them gets at most.
  int nodes(int ranks) const;
  int on_node(int ranks) const { return (ranks - 1) / nodes(ranks) + 1; }
  int cpus() const { return cpus_; }

 private:
  bool of_job_;
  std::string words_ = "1";
  std::string nodes_words_;
  std::string node_memory_words_;
  std::string bandwidth_words_;
  bool json_ = false;
  bool sbatch_ = false;
  int nodes_ = 0;
  int ranks_per_node_ = 4;
  int cpus_ = 8;
  std::vector<int> ranks_{1};
  std::optional<std::uint64_t> node_memory_;
  std::optional<double> bandwidth_;
};

}  // namespace lox
