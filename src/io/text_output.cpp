// SPDX-License-Identifier: MIT
#include "lox/io/text_output.hpp"

#include "lox/base/error.hpp"
#include "lox/io/identity.hpp"
#include "lox/io/json.hpp"
#include "lox/io/output.hpp"

namespace lox {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::uint64_t longest_text = std::uint64_t{1} << 30;

std::string fingerprint_in(const ordered_json& text) {
  if (!text.is_object()) return "";
  const ordered_json proof = text.value("proof", ordered_json::object());
  const ordered_json found = proof.is_object() ? proof.value("fingerprint", ordered_json()) : ordered_json();
  return found.is_string() ? found.get<std::string>() : "";
}

}  // namespace

ordered_json read_text_output(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored) || fs::file_size(path, ignored) > longest_text) return {};
  const ordered_json text = ordered_json::parse(read_text(path, longest_text), nullptr, false);
  const bool own = text.is_object() && text.contains("lox") && text.contains("proof");
  return own ? text : ordered_json();
}

TextOutput::TextOutput(const fs::path& path, const json& identity)
    : paths_(path), fingerprint_(fingerprint_of(identity)) {}

TextOutput::TextOutput(const fs::path& path, const OutputRules& rules, const json& identity,
                       const json& notes)
    : TextOutput(path, identity) {
  check_output_place(path, rules.inputs);
  lock_ = lock_journal(paths_, made_journal_);
  try {
    remove_half_written(paths_.output);
    look(rules, identity);
    if (state_ == State::fresh) begin_anew(identity, notes);
  } catch (...) {
    if (made_journal_ || !is_there(paths_.sign())) leave();
    throw;
  }
}

TextOutput::State TextOutput::foresee(const fs::path& path, const OutputRules& rules, const json& identity) {
  TextOutput output(path, identity);
  check_output_place(path, rules.inputs);
  OutputLock::refuse_holder(output.paths_.lock());
  output.look(rules, identity);
  return output.state_;
}

/// What an earlier run has left, and whether this one may begin.
void TextOutput::look(const OutputRules& rules, const json& identity) {
  text_ = read_text_output(paths_.output);
  const json sign = read_sign(paths_);
  const std::string changed = sign.empty() ? "" : difference_from_sign(identity, sign);
  const bool mine = !sign.empty() && changed.empty();
  if (fingerprint_in(text_) == fingerprint_ && !(rules.overwrite && !mine)) {
    state_ = State::finished;
    return;
  }
  if (is_there(paths_.output)) {
    if (!rules.overwrite) {
      fail(ExitCode::bad_input, "{}: exists already; say --overwrite to replace it", paths_.output);
    }
    if (text_.is_null()) {
      fail(ExitCode::bad_input,
           "{}: exists and is no text of lox; --overwrite does not remove it, do so by hand", paths_.output);
    }
  }
  if (mine) {
    state_ = State::resumed;
    return;
  }
  if (!sign.empty() && !rules.overwrite) {
    fail(ExitCode::bad_input,
         "{}: belongs to another job: {}; run that job to its end, or throw it away with --overwrite",
         paths_.journal, changed.c_str());
  }
}

void TextOutput::begin_anew(const json& identity, const json& notes) {
  // On disk before anything else goes: what is there is never taken for this job's.
  if (remove_file(paths_.sign())) sync_directory(paths_.journal);
  clear_journal(paths_);
  write_text_atomically(paths_.sign(), make_sign(identity, notes).dump());
}

void TextOutput::finish(ordered_json text) {
  if (state_ != State::finished) {
    if (!lock_->stands()) {
      fail(ExitCode::io, "{}: was taken away while lox ran; the output is not written", paths_.journal);
    }
    text["proof"] = {{"fingerprint", fingerprint_}};
    write_text_atomically(paths_.output, text.dump(1) + "\n");
    text_ = std::move(text);
    state_ = State::finished;
  }
  discard();
}

void TextOutput::discard() {
  if (!lock_ || !lock_->stands()) return;  // what is there now may be another job's
  clear_journal(paths_);
  remove_file(paths_.sign());
  leave();
}

/// Lets go of the lock, and of the journal if nothing is left in it. Its file must be closed before: on NFS
/// an open file that is removed stays in its folder under a hidden name.
void TextOutput::leave() {
  lock_->remove();
  lock_.reset();
  remove_file(paths_.journal);
}

}  // namespace lox
