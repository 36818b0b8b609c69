// SPDX-License-Identifier: MIT
#include "lox/io/lock.hpp"

#include "lox/base/anchor.hpp"
#include "lox/base/error.hpp"
#include "lox/base/site.hpp"
#include "lox/io/json.hpp"

#include <array>
#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <random>
#include <span>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

struct flock region_of(short type, off_t first, off_t count) {
  struct flock region {};
  region.l_type = type;
  region.l_whence = SEEK_SET;
  region.l_start = first;
  region.l_len = count;  // 0: all that follows
  return region;
}

/// False if another open file description holds a lock there. A file system without locks counts as free.
bool try_lock(const File& file, off_t first, off_t count) {
  struct flock region = region_of(F_WRLCK, first, count);
  return ::fcntl(file.descriptor(), F_OFD_SETLK, &region) == 0 || (errno != EAGAIN && errno != EACCES);
}

/// The first rank whose byte is locked by somebody else; nothing if none is.
std::optional<int> locked_rank(const File& file) {
  struct flock region = region_of(F_WRLCK, 0, 0);
  if (::fcntl(file.descriptor(), F_OFD_GETLK, &region) != 0 || region.l_type == F_UNLCK) return std::nullopt;
  return static_cast<int>(region.l_start);
}

/// What the file says; empty if it is not a lock of lox.
nlohmann::json text_of(const fs::path& path) {
  const nlohmann::json json = parse_json(read_text(path, 1 << 16));
  return json.is_object() && json.contains("pid") ? json : nlohmann::json::object();
}

std::string describe(const fs::path& path, int rank) {
  const nlohmann::json json = text_of(path);
  if (json.empty()) return "another process";
  const auto text = [&](const char* key) {
    const nlohmann::json value = json.value(key, nlohmann::json("?"));
    return printable(value.is_string() ? value.get<std::string>() : value.dump());
  };
  std::string line = fmt::format("process {} on {}, since {}", text("pid"), text("host"), text("since"));
  if (json.contains("slurm_job")) line += ", Slurm job " + text("slurm_job");
  if (rank > 0) line += fmt::format(", of which rank {} still runs", rank);
  return line;
}

/// Was the lock taken by this Slurm job before it was requeued? Then its taker is gone, even if a lost node's
/// lock still lingers in the file system.
bool is_of_an_earlier_start(const fs::path& path) {
  const Slurm here = slurm();
  const nlohmann::json json = text_of(path);
  if (here.job.empty() || json.empty()) return false;
  if (json.value("slurm_job", nlohmann::json()) != here.job) return false;
  const nlohmann::json restarts = json.value("restarts", nlohmann::json(0));
  return restarts.is_number_integer() && restarts.get<int>() < here.restarts;
}

[[noreturn]] void refuse(const fs::path& file, const std::string& holder) {
  fail(ExitCode::bad_input,
       "{}: another job is writing this output: {}; wait for it, or choose another --output", file, holder);
}

}  // namespace

OutputLock::OutputLock(const fs::path& file) : file_(File::open_lock(file)) {
  if (!try_lock(file_, 0, 0) && !is_of_an_earlier_start(file)) {
    refuse(file, describe(file, locked_rank(file_).value_or(0)));
  }
  if (!leads_to(file, file_.descriptor())) {
    fail(ExitCode::bad_input,
         "{}: another job has just finished or restarted this output; run the command again", file);
  }
  if (file_.size() > 0 && text_of(file).empty()) {
    fail(ExitCode::bad_input, "{}: is not a lock of lox; move it away, or choose another --output", file);
  }
  struct flock others = region_of(F_UNLCK, 1, 0);  // for the other ranks
  ::fcntl(file_.descriptor(), F_OFD_SETLK, &others);
  const std::time_t now = std::time(nullptr);
  std::array<char, 32> since{};
  struct tm parts {};
  std::strftime(since.data(), since.size(), "%FT%T%z", ::localtime_r(&now, &parts));
  std::random_device entropy;
  token_ = fmt::format("{:08x}{:08x}", entropy(), entropy());
  nlohmann::json json{{"host", host_name()}, {"pid", ::getpid()}, {"since", since.data()}, {"token", token_}};
  if (const Slurm here = slurm(); !here.job.empty()) {
    json["slurm_job"] = here.job;
    json["restarts"] = here.restarts;
  }
  const std::string text = json.dump() + "\n";
  file_.truncate(0);
  file_.write(0, std::as_bytes(std::span(text)));
  file_.sync();
}

OutputLock::OutputLock(const fs::path& file, int rank, const std::string& token)
    : file_(File::open_write(file)), token_(token) {
  (void)try_lock(file_, rank, 1);  // free, since rank 0 had them all
  if (text_of(file).value("token", nlohmann::json()) != token) {
    fail(ExitCode::io, "{}: is not the lock that rank 0 holds; was it removed while lox ran?", file);
  }
}

bool OutputLock::stands() const {
  return leads_to(file_.path(), file_.descriptor());
}

void OutputLock::remove() {
  if (stands()) ::unlink(file_.path().c_str());
}

std::optional<OutputLock> join_lock(const Comm& comm, const fs::path& file, const OutputLock* held) {
  const std::string token = comm.broadcast(held != nullptr ? held->token() : "");
  std::optional<OutputLock> lock;
  together(comm, [&] {
    if (!comm.is_root()) lock.emplace(file, comm.rank(), token);
  });
  return lock;
}

std::optional<std::string> OutputLock::holder(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return std::nullopt;
  const std::optional<int> rank = locked_rank(File::open_read(file));
  return rank ? std::optional(describe(file, *rank)) : std::nullopt;
}

void OutputLock::refuse_holder(const fs::path& file) {
  const std::optional<std::string> now = holder(file);
  if (now && !is_of_an_earlier_start(file)) refuse(file, *now);
}

}  // namespace lox
