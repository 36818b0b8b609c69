// SPDX-License-Identifier: MIT
#include "lox/io/lock.hpp"

#include "lox/base/error.hpp"
#include "lox/base/site.hpp"

#include <array>
#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

/// False if another open file description holds the lock. A file system without locks counts as free.
bool try_lock(const File& file, bool keep) {
  struct flock region {};
  region.l_type = F_WRLCK;
  region.l_whence = SEEK_SET;
  if (::fcntl(file.descriptor(), keep ? F_OFD_SETLK : F_OFD_GETLK, &region) == 0) {
    return keep || region.l_type == F_UNLCK;
  }
  return errno != EAGAIN && errno != EACCES;
}

std::string describe(const fs::path& path) {
  const nlohmann::json json = nlohmann::json::parse(read_text(path, 1 << 16), nullptr, false);
  if (!json.is_object()) return "another process";
  const auto text = [&](const char* key) {
    const nlohmann::json value = json.value(key, nlohmann::json("?"));
    return printable(value.is_string() ? value.get<std::string>() : value.dump());
  };
  std::string line = fmt::format("process {} on {}, since {}", text("pid"), text("host"), text("since"));
  if (json.contains("slurm_job")) line += ", Slurm job " + text("slurm_job");
  return line;
}

/// Was the lock taken by this Slurm job before it was requeued? Then its taker is gone, even if a lost node's
/// lock still lingers in the file system.
bool is_of_an_earlier_start(const fs::path& path) {
  const Slurm here = slurm();
  const nlohmann::json json = nlohmann::json::parse(read_text(path, 1 << 16), nullptr, false);
  if (here.job.empty() || !json.is_object()) return false;
  if (json.value("slurm_job", nlohmann::json()) != here.job) return false;
  const nlohmann::json restarts = json.value("restarts", nlohmann::json(0));
  return restarts.is_number_integer() && restarts.get<int>() < here.restarts;
}

}  // namespace

OutputLock::OutputLock(const fs::path& file) : file_(File::open_append(file)) {
  if (!try_lock(file_, true) && !is_of_an_earlier_start(file)) {
    fail(ExitCode::bad_input,
         "{}: another job is writing this output: {}; wait for it, or choose another --output", file,
         describe(file));
  }
  if (file_.links() == 0) {
    fail(ExitCode::bad_input,
         "{}: another job has just finished or restarted this output; run the command again", file);
  }
  const std::time_t now = std::time(nullptr);
  std::array<char, 32> since{};
  struct tm parts {};
  std::strftime(since.data(), since.size(), "%FT%T%z", ::localtime_r(&now, &parts));
  nlohmann::json json{{"host", host_name()}, {"pid", ::getpid()}, {"since", since.data()}};
  if (const Slurm here = slurm(); !here.job.empty()) {
    json["slurm_job"] = here.job;
    json["restarts"] = here.restarts;
  }
  file_.truncate(0);
  file_.append(json.dump() + "\n");
  file_.sync();
}

std::optional<std::string> OutputLock::holder(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return std::nullopt;
  const File handle = File::open_append(file);
  if (try_lock(handle, false)) return std::nullopt;
  return describe(file);
}

}  // namespace lox
