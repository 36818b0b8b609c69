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
    if (const auto& text = match->second->text) {
      target.write(file.extent, 0, std::as_bytes(std::span(*text)));
      target.sync(file.extent);
      continue;
    }
    const Extent from_place = match->second->extent;
    if (from_place.file < 0) continue;  // the task itself makes it
    copy_bytes([&](std::uint64_t at, std::span<std::byte> to_fill) { source.read(from_place, at, to_fill); },
               target, file.extent, 0, file.extent.bytes);
    target.sync(file.extent);
  }
}

}  // namespace

std::unique_ptr<OutputLock> lock_journal(const OutputPaths& paths, bool& made) {
  constexpr int tries = 3;  // another job that ends may take the journal away between the two steps
  for (int i = 1;; ++i) {
    std::error_code error;
    made = fs::create_directory(paths.journal, error);
    if (error) fail(ExitCode::io, "{}: cannot be made: {}", paths.journal, error.message());
    try {
      return std::make_unique<OutputLock>(paths.lock());
    } catch (const Error&) {
      if (i == tries || is_there(paths.lock())) throw;
    }
  }
}

json make_sign(const json& identity, const json& notes) {
  return {{"lox_journal", journal_version}, {"identity", identity}, {"notes", notes}};
}

json read_sign(const OutputPaths& paths) {
  std::error_code ignored;
  if (!fs::exists(paths.sign(), ignored)) return json::object();
  const json sign = parse_json(read_text(paths.sign(), largest_sign));
  return sign.is_object() ? sign : json::object();
}

std::string difference_from_sign(const json& identity, const json& sign) {
  const std::string version =
      first_difference(journal_version, sign.value("lox_journal", json()), "lox_journal");
  return version.empty() ? first_difference(identity, sign.value("identity", json()), "") : version;
}

/// Makes the journal's folder, and takes the lock.
void Output::enter(const OutputRules& rules) {
  check_output(paths_.output, {true, rules.inputs});
  lock_ = lock_journal(paths_, made_journal_);
}

/// What an earlier run of the same job has left. `goes_on`: a part of the work is of use, too.
void Output::look(const OutputRules& rules, const Checkpoint& like, const json& identity, bool goes_on,
                  const Vouch& vouched) {
  const bool known = fs::exists(paths_.sign());
  const bool has_partial = is_there(paths_.partial);
  sign_ = read_sign(paths_);
  const std::string changed = known ? difference_from_sign(identity, sign_) : "";
  const bool mine = known && changed.empty();
  const bool whole = mine && sign_.value("whole", json()) == true;
  const std::string born = birth_of(paths_.output);
  if (mine && !has_partial && !born.empty() && sign_.value("born", json()) == born) {
    if (!whole) {
      fail(ExitCode::bad_input,
           "{}: was given its name before it was finished; rename it to {} and run this again", paths_.output,
           paths_.partial);
    }
    state_ = State::published;
    table_ = reopen(paths_.output, like);
    return;
  }
  // The sign goes last: without it, and with nothing to go on with, an earlier run may have come to its end.
  if (!known && !has_partial && !rules.overwrite && !born.empty() && vouched && vouched()) {
    state_ = State::published;
    table_ = reopen(paths_.output, like);
    return;
  }
  check_place(rules);
  if (mine && has_partial && (whole || goes_on)) {
    table_ = reopen(paths_.partial, like);
    partial_.emplace(paths_.partial);
    state_ = State::resumed;
  } else if (has_partial && !rules.overwrite) {
    if (!goes_on) {
      fail(ExitCode::bad_input, "{}: left by a run that did not finish; remove it, or say --overwrite",
           paths_.partial);
    }
    if (known) {
      fail(ExitCode::bad_input,
           "{}: belongs to another job: {}; run that job to its end, or throw it away with --overwrite",
           paths_.partial, changed.c_str());
    }
    if (made_journal_) {
      fail(ExitCode::bad_input,
           "{}: exists, but without a journal to go on from; remove it, or use --overwrite", paths_.partial);
    }
  }
}

/// After a crash the old output is brought back first. The output that --overwrite names now is the only one
/// that it may take away.
void Output::check_place(const OutputRules& rules) {
  if (lock_) restore_replaced();
  check_output(paths_.output, rules);
  if (rules.overwrite && is_there(paths_.output)) named_.emplace(paths_.output);
}

void Output::make(const Checkpoint& like, const json& identity, const json& notes, Space space) {
  try {
    remove_sign();
    clear_journal(paths_);
    remove_tree(paths_.partial);
    table_ = create_checkpoint(like, paths_.partial, format_of(paths_.output), space);
    partial_.emplace(paths_.partial);
    if (!temporary_) copy_other_files(like, table_);
    sign_ = make_sign(identity, notes);
    sign_["born"] = birth_of(paths_.partial);
    write_text_atomically(paths_.sign(), sign_.dump());
  } catch (...) {
    discard();
    throw;
  }
}

Output Output::create(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                      const json& identity, Space space) {
  Output output(path);
  output.enter(rules);
  output.refuse_or([&] { output.look(rules, like, identity, false, nullptr); });
  if (output.state_ != State::fresh) return output;
  output.temporary_ = true;
  output.make(like, identity, {{"task", identity.at("task")}}, space);
  return output;
}

Output Output::open(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                    const json& identity, const json& notes, const Vouch& vouched) {
  Output output(path);
  output.enter(rules);
  output.refuse_or([&] { output.look(rules, like, identity, true, vouched); });
  if (output.state_ == State::fresh) output.make(like, identity, notes, Space::reserved);
  return output;
}

Output::State Output::foresee(const fs::path& path, const OutputRules& rules, const Checkpoint& like,
                              const json& identity, const Vouch& vouched) {
  Output output(path);
  check_output(path, {true, rules.inputs});
  OutputLock::refuse_holder(output.paths_.lock());
  output.made_journal_ = !is_there(output.paths_.journal);
  output.look(rules, like, identity, true, vouched);
  return output.state_;
}

Output::Output(Output&& other) noexcept : paths_(fs::path()) {
  *this = std::move(other);
}

Output& Output::operator=(Output&& other) noexcept {
  std::swap(paths_, other.paths_);
  std::swap(state_, other.state_);
  std::swap(sign_, other.sign_);
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

/// What `check` refuses leaves no journal that was not there before, nor one that is of no use.
template <class Check>
void Output::refuse_or(Check check) {
  try {
    check();
  } catch (...) {
    if (made_journal_ || (!is_there(paths_.sign()) && !is_there(paths_.partial))) leave();
    throw;
  }
}

/// Lets go of the lock, and of the journal if nothing is left in it. Its file must be closed before: on NFS
/// an open file that is removed stays in its folder under a hidden name.
void Output::leave() {
  if (!lock_) return;
  lock_->remove();
  lock_.reset();
  remove_file(paths_.journal);
}

/// On disk before anything else goes: a partial without its sign is never gone on with.
void Output::remove_sign() {
  if (remove_file(paths_.sign())) sync_directory(paths_.journal);
}

/// A crash in the middle of publish() may have left the old output in the journal, and none in its place.
void Output::restore_replaced() {
  if (is_there(paths_.replaced()) && !is_there(paths_.output))
    rename_if_free(paths_.replaced(), paths_.output);
}

void Output::check_partial() const {
  if (lock_->stands() && partial_->is_at(paths_.partial)) return;
  fail(ExitCode::io, "{}: it or its journal was taken away while lox ran; the output is not given its name",
       paths_.partial);
}

void Output::put(const std::string& name, std::string_view text) {
  check_partial();
  write_text_atomically(paths_.partial / name, text);
}

void Output::publish() {
  check_partial();
  // From here on the same command has nothing to do but what follows, and what came in between loses nothing.
  sign_["whole"] = true;
  write_text_atomically(paths_.sign(), sign_.dump());
  temporary_ = false;
  if (is_there(paths_.output)) set_aside();
  if (!rename_if_free(paths_.partial, paths_.output)) refuse_what_came();
  sync_directory(paths_.output.parent_path());
}

/// Moves what --overwrite named into the journal, where it stays until the new output stands. Needs no sync:
/// whatever a loss of power leaves of this step and the next, the new one is on disk and whole.
void Output::set_aside() {
  if (!named_ || !named_->is_at(paths_.output)) refuse_what_came();
  remove_tree(paths_.replaced());
  if (!rename_if_free(paths_.output, paths_.replaced())) refuse_what_came();
  if (!named_->is_at(paths_.replaced())) {  // it was exchanged in this very moment
    rename_if_free(paths_.replaced(), paths_.output);
    refuse_what_came();
  }
}

void Output::refuse_what_came() {
  fail(ExitCode::bad_input,
       "{}: was put there while lox ran and is left alone; the finished work waits as {}: move {} away and "
       "run the same command again, which gives the work its name",
       paths_.output, paths_.partial, paths_.output);
}

void Output::close() {
  named_.reset();  // of a file that is removed now
  clear_journal(paths_);
  remove_file(paths_.sign());  // last: until then the same command finds the output finished
  leave();
}

void Output::finish() {
  if (state_ != State::published) publish();
  close();
}

void Output::discard() {
  temporary_ = false;
  if (!lock_ || !lock_->stands()) return;  // what is there now may be another job's
  partial_.reset();
  restore_replaced();
  remove_sign();
  clear_journal(paths_);
  remove_tree(paths_.partial);
  leave();
}

std::optional<OutputLock> Output::join(const Comm& comm, const fs::path& path, const Output* output) {
  return join_lock(comm, OutputPaths(path).lock(), output != nullptr ? output->lock_.get() : nullptr);
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
