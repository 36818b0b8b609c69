// SPDX-License-Identifier: MIT
#include "lox/cli/sbatch.hpp"

#include "lox/base/site.hpp"

#include <algorithm>

namespace lox {
namespace {

using Words = std::vector<std::pair<std::string, std::string>>;

/// One word of a shell's line.
std::string shell_word(const std::string& word) {
  constexpr std::string_view harmless =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";
  if (!word.empty() && word.find_first_not_of(harmless) == std::string::npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

/// Whether an INI file gives the value back as it is: a # would start a comment, blanks at the ends be lost,
/// and of paths $NAME and ~ would be replaced.
bool fits_job_file(const std::string& value, bool path) {
  constexpr std::string_view blanks = " \t\r\n";
  if (path && (value.starts_with('~') || value.find('$') != std::string::npos)) return false;
  return !value.empty() && value.find_first_of("#\n") == std::string::npos &&
         blanks.find(value.front()) == std::string_view::npos &&
         blanks.find(value.back()) == std::string_view::npos;
}

bool is_switch(const Options& options, const std::string& name) {
  return std::ranges::any_of(
      options.of_job(), [&](const Option& option) { return option.name == name && option.value.empty(); });
}

bool is_path(const Options& options, const std::string& name) {
  return std::ranges::any_of(options.of_job(),
                             [&](const Option& option) { return option.name == name && option.path; });
}

/// harden.sbatch beside this program: as installed, or in its source tree.
std::string batch_script() {
  const fs::path program = program_file();
  std::error_code error;
  for (const char* place : {"../share/lox/slurm", "../../../slurm"}) {
    const fs::path script = (program.parent_path() / place / "harden.sbatch").lexically_normal();
    if (!program.empty() && fs::exists(script, error)) return script.string();
  }
  return "harden.sbatch";
}

}  // namespace

std::string sbatch_commands(const BatchNeeds& needs, const Options& options, const std::string& job_file) {
  const std::string_view plan_of = "plan ";  // "plan" alone plans harden
  const bool other = options.command().starts_with(plan_of);
  const std::string task = other ? options.command().substr(plan_of.size()) : "harden";
  const Words& given = options.given();
  const auto in_file = [&](const std::string& name) {  // all values of a name, or none: the command line wins
    return job_file.empty() && std::ranges::all_of(given, [&](const auto& word) {
             return word.first != name || is_switch(options, name) ||
                    fits_job_file(word.second, is_path(options, name));
           });
  };
  std::string written;
  std::string words;
  for (const auto& [name, value] : given) {
    const bool alone = is_switch(options, name);
    if (in_file(name)) {
      written += fmt::format("{} = {}\n", name, alone ? "true" : value);
    } else {
      // After a = a leading dash does no harm; an empty value can only be a word of its own.
      words += ' ' + shell_word(alone ? "--" + name
                                      : fmt::format("--{}{}{}", name, value.empty() ? "" : "=", value));
      if (!alone && value.empty()) words += " ''";
    }
  }
  std::string commands;
  std::string file = job_file;
  if (file.empty()) {
    file = task + ".ini";
    commands =
        fmt::format("(set -C; cat > {}) <<'END' &&\n{}END\n", file, written);  // -C: none is overwritten
  }
  if (file.starts_with('-')) file.insert(0, "./");
  return commands + fmt::format(
                        "sbatch --nodes={} --ntasks={} --ntasks-per-node={} --cpus-per-task={} --mem={}G "
                        "--time={} {} {}{}{}\n",
                        needs.nodes, needs.ranks, needs.ranks_per_node, needs.cpus_per_rank, needs.gibibytes,
                        needs.minutes, shell_word(batch_script()), task == "harden" ? "" : task + ' ',
                        shell_word(file), words);
}

}  // namespace lox
