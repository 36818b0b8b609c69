// SPDX-License-Identifier: MIT
#include "lox/run/workspace.hpp"

#include "lox/base/error.hpp"
#include "lox/io/convert.hpp"
#include "lox/io/storage.hpp"
#include "lox/run/journal.hpp"

#include <cerrno>
#include <cstring>
#include <map>
#include <unistd.h>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::json;

constexpr int journal_version = 1;

/// The files of a model as they are now; a change of any makes it another model.
json identity(const Checkpoint& model) {
  json files = json::array();
  for (const fs::path& path : model.files) {
    files.push_back({{"file", printable(path.string(), SIZE_MAX)},
                     {"bytes", fs::file_size(path)},
                     {"modified", fs::last_write_time(path).time_since_epoch().count()}});
  }
  const std::string table = model.to_text();
  return {{"path", printable(normal_path(model.path).string(), SIZE_MAX)},
          {"files", std::move(files)},
          {"headers", checksum(std::as_bytes(std::span(table)))}};
}

/// The first place where two jobs differ, as a sentence; empty if they are the same.
std::string difference(const json& ours, const json& theirs, const std::string& at = "") {
  if (ours == theirs) return "";
  if (ours.is_object() && theirs.is_object()) {
    for (const auto& [key, value] : ours.items()) {
      const std::string inner =
          difference(value, theirs.value(key, json()), at.empty() ? key : at + "." + key);
      if (!inner.empty()) return inner;
    }
  }
  const auto text = [](const json& value) {
    return printable(value.dump(-1, ' ', false, json::error_handler_t::replace));
  };
  return fmt::format("{} is {} now, but was {}", at.empty() ? "the job" : at, text(ours), text(theirs));
}

/// The partial as it lies on disk, its tensors in the order of `aligned`.
Checkpoint reopen(const fs::path& partial, const Checkpoint& aligned) {
  Checkpoint found = open_checkpoint(partial);
  std::unordered_map<std::string, TensorInfo> by_name;
  for (TensorInfo& tensor : found.tensors) by_name.emplace(tensor.name, std::move(tensor));
  found.tensors.clear();
  for (const TensorInfo& tensor : aligned.tensors) {
    const auto match = by_name.find(tensor.name);
    if (match == by_name.end() || match->second.shape != tensor.shape ||
        match->second.dtype != tensor.dtype) {
      fail(ExitCode::bad_input, "{}: the unfinished output has lost tensor '{}'; remove it and its .journal",
           partial, tensor.name);
    }
    found.tensors.push_back(match->second);
  }
  return found;
}

void copy_other_files(const Checkpoint& from, const Checkpoint& to) {
  std::unordered_map<std::string, const OtherFile*> by_name;
  for (const OtherFile& file : from.other_files) by_name.emplace(file.name, &file);
  FileStorage source(from, FileStorage::Access::read);
  FileStorage target(to, FileStorage::Access::write);
  for (const OtherFile& file : to.other_files) {
    const auto match = by_name.find(file.name);
    if (match == by_name.end() || file.extent.bytes == 0) continue;
    copy_extent(source, match->second->extent, target, file.extent);
    target.sync(file.extent);
  }
}

constexpr std::uint64_t largest_job_file = std::uint64_t{1} << 30;

fs::path lock_file(const fs::path& journal) {
  return journal / "lock";
}

/// Better now than after hours.
void check_report_folder(const fs::path& report) {
  const fs::path folder = normal_path(report).parent_path();
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail(ExitCode::bad_input, "{}: the report cannot be written there: {}", report, std::strerror(errno));
  }
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(ExitCode::io, "{}: cannot remove: {}", path, error.message());
}

}  // namespace

json job_fingerprint(const Job& job, const Checkpoint& base, const Checkpoint& aligned) {
  return {{"lox_journal", journal_version},
          {"job", job_parameters(job)},
          {"base", identity(base)},
          {"aligned", identity(aligned)}};
}

void discard_workspace(const fs::path& output) {
  // The journal's sign goes first: a partial without it is never resumed.
  std::error_code ignored;
  fs::remove(Journal::job_file(Journal::directory(output)), ignored);
  remove_tree(partial_path(output));
  remove_tree(Journal::directory(output));
}

void remove_journal(const Job& job) {
  fs::path half_written = report_path(job);
  half_written += ".tmp";
  std::error_code ignored;
  fs::remove(half_written, ignored);
  remove_tree(Journal::directory(job.output));
}

void check_inputs_unchanged(const json& fingerprint, const Checkpoint& base, const Checkpoint& aligned) {
  for (const auto& [name, model] : {std::pair("base", &base), std::pair("aligned", &aligned)}) {
    json now;
    try {
      now = identity(*model);
    } catch (const fs::filesystem_error& error) {
      fail(ExitCode::io, "the {} model vanished while lox ran: {}", name, error.what());
    }
    const std::string changed = difference(now, fingerprint.at(name), name);
    if (!changed.empty()) {
      fail(ExitCode::io,
           "the {} model was changed while lox ran: {}; the output mixes two models, start again", name,
           changed);
    }
  }
}

std::vector<TensorRecord> latest(std::vector<TensorRecord> records) {
  std::map<std::pair<std::string, std::int64_t>, std::size_t> last;
  for (std::size_t i = 0; i < records.size(); ++i) last[{records[i].name, records[i].matrix}] = i;
  std::vector<TensorRecord> kept;
  for (const auto& [key, i] : last) kept.push_back(std::move(records[i]));
  return kept;
}

std::optional<std::uint64_t> unfinished_seed(const Job& job) {
  const fs::path file = Journal::job_file(Journal::directory(job.output));
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return std::nullopt;
  const json sign = json::parse(read_text(file, largest_job_file), nullptr, false);
  if (!sign.is_object() || !sign.contains("job") || !sign["job"].is_object()) return std::nullopt;
  const json seed = sign["job"].value("seed", json());
  if (!seed.is_number_unsigned()) return std::nullopt;
  Job same = job;
  same.seed = seed.get<std::uint64_t>();
  if (job_parameters(same) != sign["job"]) return std::nullopt;
  return same.seed;
}

OutputStatus output_status(const fs::path& output) {
  OutputStatus status;
  const fs::path journal = Journal::directory(output);
  std::error_code ignored;
  if (fs::exists(Journal::job_file(journal), ignored)) {
    const json job = json::parse(read_text(Journal::job_file(journal), largest_job_file), nullptr, false);
    if (job.is_object() && job.contains("items") && job["items"].is_number_integer()) {
      status.items = job["items"].get<std::int64_t>();
    }
    for (const TensorRecord& record : latest(Journal::load(journal))) {
      ++status.items_finished;
      status.bytes_finished += record.bytes_written;
    }
    status.holder = OutputLock::holder(lock_file(journal)).value_or("");
    status.state = OutputStatus::State::unfinished;
  }
  if (fs::exists(output, ignored) && !fs::exists(partial_path(output), ignored)) {
    status.state = OutputStatus::State::finished;
  }
  return status;
}

Workspace open_workspace(const Job& job, const Checkpoint& base, const Checkpoint& aligned,
                         std::int64_t items) {
  const fs::path partial = partial_path(job.output);
  const fs::path journal = Journal::directory(job.output);
  const bool known = fs::exists(Journal::job_file(journal));
  const bool published = known && !fs::exists(partial) && fs::exists(job.output);
  check_output(job.output, job.overwrite || published, {job.base, job.aligned});
  check_report_folder(report_path(job));
  const json fingerprint = job_fingerprint(job, base, aligned);
  Workspace workspace;
  const bool fresh = fs::create_directory(journal);
  workspace.lock = std::make_unique<OutputLock>(lock_file(journal));
  // From here on this job alone owns the partial and the journal.
  const auto start_over = [&] {
    workspace.lock.reset();
    discard_workspace(job.output);
    fs::create_directory(journal);
    workspace.lock = std::make_unique<OutputLock>(lock_file(journal));
  };
  if (known && (published || fs::exists(partial))) {
    json theirs = json::parse(read_text(Journal::job_file(journal), largest_job_file), nullptr, false);
    if (theirs.is_object()) theirs.erase("items");
    const std::string changed = difference(fingerprint, theirs);
    if (changed.empty() && published) {
      workspace.published = true;
      return workspace;
    }
    if (published && !job.overwrite) check_output(job.output, false, {});
    if (changed.empty()) {
      workspace.output = reopen(partial, aligned);
      workspace.finished = Journal::load(journal);
      workspace.resumed = true;
      return workspace;
    }
    if (!job.overwrite) {
      fail(ExitCode::bad_input,
           "{}: belongs to another job: {}; run that job to its end, or throw it away with --overwrite",
           partial, changed);
    }
  } else if (fs::exists(partial) && fresh && !job.overwrite) {
    workspace.lock.reset();
    remove_tree(journal);
    fail(ExitCode::bad_input,
         "{}: exists, but without a journal to go on from; remove it, or use --overwrite", partial);
  }
  try {
    start_over();
    workspace.output = create_checkpoint(aligned, partial, format_of(job.output));
    copy_other_files(aligned, workspace.output);
    json sign = fingerprint;
    sign["items"] = items;
    write_text_atomically(Journal::job_file(journal), sign.dump());
  } catch (...) {
    discard_workspace(job.output);
    throw;
  }
  return workspace;
}

void close_workspace(const Job& job, const nlohmann::ordered_json& report) {
  write_text_atomically(report_path(job), report.dump(1) + "\n");
  publish(partial_path(job.output), job.output);
  remove_journal(job);
}

}  // namespace lox
