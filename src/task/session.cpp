// SPDX-License-Identifier: MIT
#include "lox/task/session.hpp"

#include "lox/base/site.hpp"
#include "lox/base/stop.hpp"
#include "lox/base/units.hpp"
#include "lox/base/version.hpp"
#include "lox/io/hdf5.hpp"
#include "lox/io/output.hpp"
#include "lox/io/text_output.hpp"
#include "lox/linalg/libraries.hpp"
#include "lox/report/json.hpp"
#include "lox/task/job_identity.hpp"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <optional>
#include <random>

#include <Eigen/Core>
#include <fmt/chrono.h>

namespace lox {
namespace {

/// The seed of the unfinished output, if its job differs from this one in nothing else.
std::optional<std::uint64_t> unfinished_seed(const Job& job, const JobParameters& parameters) {
  const std::optional<nlohmann::json> identity = unfinished_identity(job.output);
  if (!identity || !identity->is_object()) return std::nullopt;
  const nlohmann::json theirs = identity->value("job", nlohmann::json());
  if (!theirs.is_object()) return std::nullopt;
  const nlohmann::json seed = theirs.value("seed", parameters_by_default()["seed"]);
  if (!seed.is_number_unsigned()) return std::nullopt;
  Job same = job;
  same.solve.seed = seed.get<std::uint64_t>();
  return changed_parameters(parameters(same)) == theirs ? std::optional(same.solve.seed) : std::nullopt;
}

/// The seed of the finished output, as it tells itself or its report does; whether that is this job's is
/// asked later.
std::optional<std::uint64_t> finished_seed(const Job& job) {
  if (job.overwrite || !is_there(job.output)) return std::nullopt;
  const nlohmann::ordered_json text = read_text_output(job.output);
  const nlohmann::ordered_json reported =
      text.is_object() ? text.value("job", nlohmann::ordered_json()) : read_report(report_path(job)).job;
  if (!reported.is_object()) return std::nullopt;
  const nlohmann::ordered_json seed = reported.value("seed", nlohmann::ordered_json());
  return seed.is_number_unsigned() ? std::optional(seed.get<std::uint64_t>()) : std::nullopt;
}

/// The seed of what an earlier run has made, unfinished or finished.
std::optional<std::uint64_t> earlier_seed(const Job& job, const JobParameters& parameters) {
  const std::optional<std::uint64_t> unfinished = unfinished_seed(job, parameters);
  return unfinished ? unfinished : finished_seed(job);
}

}  // namespace

Job with_drawn_seed(const Comm& comm, const Job& asked, const JobParameters& parameters) {
  Job job = asked;
  if (!asked.random_seed) return job;
  on_root(comm, [&] {
    std::random_device entropy;  // of the operating system
    const std::uint64_t drawn = (std::uint64_t{entropy()} << 32) | entropy();
    job.solve.seed = earlier_seed(job, parameters).value_or(drawn);
  });
  job.solve.seed = std::stoull(comm.broadcast(std::to_string(job.solve.seed)));
  return job;
}

Job with_earlier_seed(const Job& asked, const JobParameters& parameters) {
  Job job = asked;
  if (asked.random_seed) job.solve.seed = earlier_seed(job, parameters).value_or(asked.solve.seed);
  return job;
}

std::uint64_t rank_memory(const Comm& comm, const RunOptions& run) {
  const int ranks = node_spread(comm).ranks_here;
  const std::uint64_t mine = run.memory ? *run.memory : memory_share(ranks);
  return static_cast<std::uint64_t>(-comm.max(-static_cast<double>(mine)));
}

void set_time_limit(const RunOptions& run) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  if (run.time_limit) {
    set_deadline(now + *run.time_limit);
  } else if (const std::optional<double> end = slurm().end_time) {
    set_deadline(*end);
  }
}

void warn_of_left_files(const Checkpoint& model, const fs::path& output, const Log& log) {
  if (model.other_files.empty() || format_of(output) != Format::safetensors_file) return;
  const std::size_t more = model.other_files.size() - 1;
  log.warn("{} has no place for the other files of {}: {}{} left out; a folder or an .h5 file keeps them",
           output, model.path, to_line("{}", model.other_files.front().name),
           more == 0 ? std::string(" is") : fmt::format(" and {} more are", more));
}

void refuse_if_stopped() {
  if (stop_urgency() > 0) {
    fail(ExitCode::stopped, "stopped by a signal; nothing is left behind, run it again");
  }
}

void log_header(const Comm& comm, const Log& log, const Resources& resources) {
  const int nodes = node_spread(comm).nodes;
  const Slurm job = slurm();
  std::string where = count_of(comm.size(), "rank") + " x " + count_of(max_threads(), "thread");
  if (!job.node_list.empty()) {
    where += to_line(" on {}, Slurm job {}", job.node_list, job.job);
    if (job.restarts > 0) where += fmt::format(" (restart {})", job.restarts);
  } else {
    where += " on " + count_of(nodes, "node");
  }
  log.info("version {}: {}, up to {} of memory a rank", version(), where,
           format_bytes(static_cast<double>(resources.memory.value_or(0))));
}

bool is_fault_of_data(const Error& error) {
  return error.code() == ExitCode::bad_input || error.code() == ExitCode::not_certified;
}

std::vector<std::pair<std::string, std::string>> library_versions() {
  return {{"MPI", mpi_library_version()},
          {"HDF5", hdf5_library_version()},
          {"BLAS", blas_library_version()},
          {"ScaLAPACK", scalapack_library_version()},
          {"Eigen", fmt::format("{}.{}.{}", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION)}};
}

nlohmann::ordered_json made_here(const Comm& comm) {
  const int nodes = node_spread(comm).nodes;
  if (!comm.is_root()) return {};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  nlohmann::ordered_json made{{"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", utc)},
                              {"host", printable(host_name())},
                              {"nodes", nodes},
                              {"threads", max_threads()}};
  if (const Slurm job = slurm(); !job.job.empty()) made["slurm_job"] = printable(job.job);
  for (const auto& [name, version] : library_versions()) made["versions"][name] = printable(version);
  return made;
}

nlohmann::ordered_json reported_job(const Job& job) {
  nlohmann::ordered_json reported = nlohmann::ordered_json::parse(job_parameters(job).dump());
  reported["base"] = printable(job.base.native(), SIZE_MAX);
  reported["aligned"] = printable(job.aligned.native(), SIZE_MAX);
  reported["output"] = printable(job.output.native(), SIZE_MAX);
  return reported;
}

}  // namespace lox
