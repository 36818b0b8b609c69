// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"
#include "lox/plan/plan.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// What every long task does at its start and end.

/// The job, its seed drawn from the operating system if it was asked to be: an output that is there, finished
/// or not, keeps its own. `parameters`: what makes two jobs of this task the same. Collective.
using JobParameters = std::function<nlohmann::json(const Job&)>;
Job with_drawn_seed(const Comm& comm, const Job& asked, const JobParameters& parameters = job_parameters);

/// The same for a plan: the seed of an output that is there, or any.
Job with_earlier_seed(const Job& asked, const JobParameters& parameters = job_parameters);

/// Bytes that a rank may use: the least of all ranks, since the plan must be the same everywhere. Collective.
std::uint64_t rank_memory(const Comm& comm, const RunOptions& run);

/// When to stop at the latest: by the option, else by the Slurm job's own end.
void set_time_limit(const RunOptions& run);

/// Warns of the other files of a model that an output has no place for.
void warn_of_left_files(const Checkpoint& model, const fs::path& output, const Log& log);

/// For tasks that begin anew after a stop: throws Error(stopped) if a signal has asked for one.
void refuse_if_stopped();

/// What an administrator asks: where, with what, on how much. Collective.
void log_header(const Comm& comm, const Log& log, const Resources& resources);

/// Bad input, or a result that cannot be certified: no use to go on, and nothing to resume.
bool is_fault_of_data(const Error& error);

/// What a run depends on beside lox itself: names and versions.
std::vector<std::pair<std::string, std::string>> library_versions();
/// When, where and with what a report is made: date in UTC, host of rank 0, nodes, threads of a rank, Slurm
/// job, versions; on rank 0 only. Collective.
nlohmann::ordered_json made_here(const Comm& comm);

/// The job as a report tells it: parameters, then paths.
nlohmann::ordered_json reported_job(const Job& job);

}  // namespace lox
