// SPDX-License-Identifier: MIT
#include "lox/io/output.hpp"

#include "lox/base/error.hpp"
#include "lox/io/identity.hpp"
#include "lox/io/json.hpp"
#include "lox/io/storage.hpp"

#include <unordered_map>
#include <utility>

namespace lox {
namespace {

using nlohmann::json;

constexpr int journal_version = 4;
constexpr std::uint64_t largest_sign = std::uint64_t{1} << 30;

/// The partial as it lies on disk, its tensors in the order of `like`.
Checkpoint reopen(const fs::path& partial, const Checkpoint& like) {
  Checkpoint found = open_checkpoint(partial);
  std::unordered_map<std::string, TensorInfo> by_name;
  for (TensorInfo& tensor : found.tensors) by_name.emplace(tensor.name, std::move(tensor));
  found.tensors.clear();
  for (const TensorInfo& tensor : like.tensors) {
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
    const Extent from_place = match->second->extent;
    copy_bytes([&](std::uint64_t at, std::span<std::byte> to_fill) { source.read(from_place, at, to_fill); },
               target, file.extent, 0, file.extent.bytes);
    target.sync(file.extent);
  }
}

/// What a sign says; an empty object if there is none or it says nothing.
json read_sign(const OutputPaths& paths) {
  std::error_code ignored;
  if (!fs::exists(paths.sign(), ignored)) return json::object();
  const json sign = parse_json(read_text(paths.sign(), largest_sign));
  return sign.is_object() ? sign : json::object();
}

/// How `identity` differs from what a sign says, as a sentence; empty if it does not.
std::string difference(const json& identity, const json& sign) {
  const std::string version =
      first_difference(journal_version, sign.value("lox_journal", json()), "lox_journal");
  return version.empty() ? first_difference(identity, sign.value("identity", json()), "") : version;
}

}  // namespace

Output::Output(const fs::path& path, const OutputRules& rules) : paths_(path) {
  check_output(path, {true, rules.inputs});
  constexpr int tries = 3;  // another job that ends may take the journal away between the two steps
  for (int i = 1; !lock_; ++i) {
    made_journal_ = fs::create_directory(paths_.journal);
    try {
      lock_ = std::make_unique<OutputLock>(paths_.lock());
    } catch (const Error&) {
      if (i == tries || is_there(paths_.lock())) throw;
    }
  }
}

/// After a crash the old output is brought back first. The output that --overwrite names now is the only one
/// that it may take away.
void Output::check_place(const OutputRules& rules) {
  restore_replaced();
  check_output(paths_.output, rules);
  if (rules.overwrite && is_there(paths_.output)) named_.emplace(paths_.output);
}

void Output::make(const Checkpoint& like, const json& identity, const json& notes, Space space) {
  try {
    clear_journal(paths_);
    remove_tree(paths_.partial);
    table_ = create_checkpoint(like, paths_.partial, format_of(paths_.output), space);
    partial_.emplace(paths_.partial);
    if (!temporary_) copy_other_files(like, table_);
    const json sign{{"lox_journal", journal_version},
                    {"identity", identity},
                    {"notes", notes},
                    {"born", birth_of(paths_.partial)}};
    write_text_atomically(paths_.sign(), sign.dump());
  } catch (...) {
    discard();
    throw;
  }
}

Output Output::create(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                      const std::string& task, Space space) {
  Output output(path, rules);
  output.refuse_or([&] {
    output.check_place(rules);
    if (is_there(output.paths_.partial) && !rules.overwrite) {
      fail(ExitCode::bad_input, "{}: left by a run that did not finish; remove it, or say --overwrite",
           output.paths_.partial);
    }
  });
  output.temporary_ = true;
  output.make(like, {{"task", task}}, {{"task", task}}, space);
  return output;
}

Output Output::open(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                    const json& identity, const json& notes) {
  Output output(path, rules);
  const OutputPaths& paths = output.paths_;
  output.refuse_or([&] {
    const bool known = fs::exists(paths.sign());
    const bool has_partial = is_there(paths.partial);
    const json sign = read_sign(paths);
    const std::string changed = known ? difference(identity, sign) : "";
    const std::string born = birth_of(paths.output);
    if (known && changed.empty() && !has_partial && !born.empty() && sign.value("born", json()) == born) {
      output.state_ = State::published;
      return;
    }
    output.check_place(rules);
    if (known && has_partial && changed.empty()) {
      output.table_ = reopen(paths.partial, like);
      output.partial_.emplace(paths.partial);
      output.state_ = State::resumed;
    } else if (known && has_partial && !rules.overwrite) {
      fail(ExitCode::bad_input,
           "{}: belongs to another job: {}; run that job to its end, or throw it away with --overwrite",
           paths.partial, changed.c_str());
    } else if (has_partial && output.made_journal_ && !rules.overwrite) {
      fail(ExitCode::bad_input,
           "{}: exists, but without a journal to go on from; remove it, or use --overwrite", paths.partial);
    }
  });
  if (output.state_ != State::fresh) return output;
  output.make(like, identity, notes, Space::reserved);
  return output;
}

Output::Output(Output&& other) noexcept : paths_(other.paths_) {
  *this = std::move(other);
}

Output& Output::operator=(Output&& other) noexcept {
  std::swap(paths_, other.paths_);
  std::swap(state_, other.state_);
  std::swap(table_, other.table_);
  std::swap(lock_, other.lock_);
  std::swap(partial_, other.partial_);
  std::swap(named_, other.named_);
  std::swap(made_journal_, other.made_journal_);
  std::swap(temporary_, other.temporary_);
  return *this;
}

Output::~Output() {
  if (!temporary_) return;
  try {
    discard();
  } catch (const Error&) {  // it was said already why the output is not wanted, or it will be
  }
}

/// What `check` refuses leaves no journal that was not there before.
template <class Check>
void Output::refuse_or(Check check) {
  try {
    check();
  } catch (...) {
    if (made_journal_) leave();
    throw;
  }
}

/// Lets go of the lock, and of the journal if nothing is left in it.
void Output::leave() {
  if (!lock_) return;
  lock_->remove();
  std::error_code ignored;
  fs::remove(paths_.journal, ignored);
  lock_.reset();
}

/// A crash in the middle of publish() may have left the old output in the journal, and none in its place.
void Output::restore_replaced() {
  if (is_there(paths_.replaced()) && !is_there(paths_.output))
    rename_if_free(paths_.replaced(), paths_.output);
}

void Output::publish() {
  if (!lock_->stands() || !partial_->is_at(paths_.partial)) {
    fail(ExitCode::io, "{}: it or its journal was taken away while lox ran; the output is not given its name",
         paths_.partial);
  }
  if (is_there(paths_.output)) set_aside();
  if (!rename_if_free(paths_.partial, paths_.output)) refuse_what_came();
  sync_directory(paths_.output.parent_path());
  temporary_ = false;
}

/// Moves what --overwrite named into the journal, where it stays until the new output stands.
void Output::set_aside() {
  if (!named_ || !named_->is_at(paths_.output)) refuse_what_came();
  remove_tree(paths_.replaced());
  if (!rename_if_free(paths_.output, paths_.replaced())) refuse_what_came();
  if (!named_->is_at(paths_.replaced())) {  // it was exchanged in this very moment
    rename_if_free(paths_.replaced(), paths_.output);
    refuse_what_came();
  }
  sync_directory(paths_.journal);
  sync_directory(paths_.output.parent_path());
}

void Output::refuse_what_came() {
  temporary_ = false;
  fail(ExitCode::bad_input,
       "{}: was put there while lox ran and is left alone; the finished work waits as {}: move one of them "
       "away and run the same command again",
       paths_.output, paths_.partial);
}

void Output::close() {
  clear_journal(paths_);
  leave();
}

void Output::discard() {
  temporary_ = false;
  restore_replaced();
  clear_journal(paths_);
  remove_tree(paths_.partial);
  leave();
}

std::optional<OutputLock> Output::join(const Comm& comm, const fs::path& path, const Output* output) {
  const std::string token = comm.broadcast(output != nullptr ? output->lock_->token() : "");
  std::optional<OutputLock> lock;
  together(comm, [&] {
    if (!comm.is_root()) lock.emplace(OutputPaths(path).lock(), comm.rank(), token);
  });
  return lock;
}

std::optional<json> unfinished_identity(const fs::path& output) {
  const json sign = read_sign(OutputPaths(output));
  const auto found = sign.find("identity");
  return found == sign.end() ? std::nullopt : std::optional<json>(*found);
}

OutputStatus output_status(const fs::path& output) {
  OutputStatus status;
  const OutputPaths paths(output);
  std::error_code ignored;
  const bool known = fs::exists(paths.sign(), ignored);
  if (known) {
    status.notes = read_sign(paths).value("notes", json::object());
    status.holder = OutputLock::holder(paths.lock()).value_or("");
    status.state = OutputStatus::State::unfinished;
  }
  if (is_there(paths.output) && !(known && is_there(paths.partial)))
    status.state = OutputStatus::State::there;
  return status;
}

}  // namespace lox
