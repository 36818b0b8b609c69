// SPDX-License-Identifier: MIT
#include "lox/cli/options.hpp"

#include "lox/base/version.hpp"
#include "lox/cli/manual.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

namespace po = boost::program_options;

namespace lox {
namespace {

/// Boost 1.74 never returns from describing an error in which a word looks like one of its own placeholders
/// ("%value%").
void refuse_placeholders(std::string_view text, const std::string& where) {
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1)) {
    const std::size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at + 1);
    if (end == std::string_view::npos || end == at + 1 || text[end] != '%') continue;
    fail(ExitCode::usage, "{}: '{}' cannot stand in an option; write it otherwise", where,
         text.substr(at, end + 1 - at));
  }
}

/// A path of a job file: ~ at its beginning is the home folder, and $NAME or ${NAME} a variable of the
/// environment, as in a shell.
std::string expanded(const std::string& path, const std::string& where) {
  const auto variable = [&](const std::string& name) -> std::string {
    const char* const value = std::getenv(name.c_str());
    if (value == nullptr) fail(ExitCode::usage, "{}: '{}': ${} is not set", where, path, name);
    return value;
  };
  const auto refuse = [&](std::size_t first, std::size_t last) {
    fail(ExitCode::usage,
         "{}: '{}': '{}' is for a shell, and none reads a job file, where only ~/, $NAME and ${{NAME}} are "
         "replaced; write out what it stands for",
         where, path, path.substr(first, last - first));
  };
  std::string text;
  std::size_t at = 0;
  if (path.starts_with("~") && path.size() > 1 && path[1] != '/')
    refuse(0, std::min(path.find('/'), path.size()));
  if (path == "~" || path.starts_with("~/")) {
    text = variable("HOME");
    at = 1;
  }
  static const std::string name_characters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
  while (at < path.size()) {
    const bool braced = path.compare(at, 2, "${") == 0;
    const std::size_t begin = at + (braced ? 2 : 1);
    const std::size_t end = std::min(path.find_first_not_of(name_characters, begin), path.size());
    const bool closed = !braced || (end < path.size() && path[end] == '}');
    const bool is_name = end > begin && (path[begin] < '0' || path[begin] > '9') && closed;
    const std::size_t brace = braced ? path.find('}', begin) : std::string::npos;
    if (!is_name && brace != std::string::npos) refuse(at, brace + 1);
    if (path.compare(at, 2, "$(") == 0) refuse(at, path.size());
    if (path[at] != '$' || !is_name) {
      text += path[at++];
      continue;
    }
    text += variable(path.substr(begin, end - begin));
    at = end + (braced ? 1 : 0);
  }
  return text;
}

}  // namespace

bool job_file_names(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find_first_not_of(" \t");
    if (first == std::string::npos || line.compare(first, key.size(), key) != 0) continue;
    const std::size_t next = line.find_first_not_of(" \t", first + key.size());
    if (next != std::string::npos && line[next] == '=') return true;
  }
  return false;
}

Options::Options(std::string command, std::string synopsis, std::string text, std::string example)
    : command_(std::move(command)),
      synopsis_(std::move(synopsis)),
      text_(std::move(text)),
      example_(std::move(example)),
      described_("Options", 80, 40) {
  described_.add_options()("help,h", "print this text");
}

void Options::add_positional(const std::string& name) {
  positional_.push_back(name);
}

void Options::add_positionals(const std::string& name, std::vector<std::string>& to) {
  add_positional(name);
  rest_ = &to;
}

void Options::add_described(Option option, const std::string& held, const po::value_semantic* semantic) {
  option.in_words = held.empty();
  if (option.fallback.empty()) option.fallback = held;
  if (option.text.empty()) option.text = option.brief;
  std::string brief = option.brief;
  if (option.in_words && !option.fallback.empty()) brief += "; default: " + plain(option.fallback);
  described_.add_options()(option.name.c_str(), semantic, brief.c_str());
  listed_.push_back(std::move(option));
}

void Options::allow_config_file() {
  add_valued({.name = "config",
              .value = "JOBFILE",
              .brief = "INI file of these options; the command line wins",
              .text = "INI file with these names as keys; the command line wins"},
             "", po::value<std::string>());
  of_job_ = listed_.size();
}

std::string Options::help() const {
  std::ostringstream text;
  text << "Usage: lox " << command_ << ' ' << synopsis_ << "\n\n" << text_ << "\n\n" << described_;
  text << "\nExample:\n" << example_ << "\n";
  std::string lines;  // Boost leaves spaces where it wraps
  for (const char c : text.str()) {
    while (c == '\n' && lines.ends_with(' ')) lines.pop_back();
    lines += c;
  }
  return lines;
}

void Options::read_config_file(const std::string& path, po::variables_map& values) const {
  std::ifstream file(path);
  if (!file) fail(ExitCode::bad_input, "{}: cannot open the job file", path);
  std::stringstream text;
  text << file.rdbuf();
  refuse_placeholders(text.view(), path);
  po::options_description keys;
  for (const Option& option : of_job())
    keys.add(*std::ranges::find(described_.options(), option.name,
                                [](const auto& known) { return known->long_name(); }));
  try {
    po::parsed_options lines = po::parse_config_file(text, keys);
    for (po::option& line : lines.options) {
      const auto known = std::ranges::find(of_job(), line.string_key, &Option::name);
      if (known != of_job().end() && known->path) {
        for (std::string& value : line.value) value = expanded(value, path);
      }
    }
    po::store(lines, values);
  } catch (const po::unknown_option& error) {
    const bool ranks = error.get_option_name() == "ranks";
    fail(ExitCode::usage, "{}: {}{}", path, error.what(),
         ranks ? "; the launcher says how many ranks there are (mpirun -n, sbatch), and --ranks tells a plan"
               : "");
  } catch (const po::error& error) {
    fail(ExitCode::usage, "{}: {}", path, error.what());
  }
}

/// Where there are more words without a name than arguments: names the first of them.
void Options::refuse_extra(const Arguments& arguments) const {
  po::options_description all;
  all.add(described_);
  all.add_options()("help-as", po::value<std::string>())("extra", po::value<Arguments>());
  const auto words = po::command_line_parser(arguments)
                         .options(all)
                         .positional(po::positional_options_description().add("extra", -1))
                         .run();
  std::size_t seen = 0;
  for (const po::option& word : words.options) {
    if (word.string_key != "extra" || seen++ < positional_.size()) continue;
    const std::string& text = word.value.front();
    const bool job_file = of_job_ != 0 && (text.ends_with(".ini") || fs::is_regular_file(text));
    fail(ExitCode::usage, "'{}' is an argument too many; {}see 'lox {} --help'", text,
         job_file ? to_line("did you mean --config {}? Or ", text) : "", command_);
  }
  fail(ExitCode::usage, "too many arguments; see 'lox {} --help'", command_);
}

bool Options::read(const Arguments& arguments, po::variables_map& values) {
  for (const std::string& word : arguments) refuse_placeholders(word, "command line");
  po::options_description all;
  all.add(described_);
  all.add_options()("help-as", po::value<std::string>());
  po::positional_options_description positions;
  for (const std::string& name : positional_) {
    const bool rest = rest_ != nullptr && name == positional_.back();
    rest ? all.add_options()(name.c_str(), po::value(rest_))
         : all.add_options()(name.c_str(), po::value<std::string>());
    positions.add(name.c_str(), rest ? -1 : 1);
  }
  try {
    // No guessing: an abbreviated option would change its meaning when a new one is added.
    const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    const auto words =
        po::command_line_parser(arguments).options(all).positional(positions).style(style).run();
    po::store(words, values);
    if (values.contains("help") || values.contains("help-as")) {
      help_text_ = values.contains("help") ? help() : help_as(*this, values["help-as"].as<std::string>());
      return false;
    }
    for (const po::option& word : words.options) {
      const auto is_it = [&](const Option& known) { return known.name == word.string_key; };
      if (word.string_key == "config" || std::ranges::none_of(of_job(), is_it)) continue;
      given_.emplace_back(word.string_key, word.value.empty() ? "" : word.value.front());
    }
    if (of_job_ != 0 && values.contains("config"))
      read_config_file(values["config"].as<std::string>(), values);
    po::notify(values);
  } catch (const po::too_many_positional_options_error&) {
    refuse_extra(arguments);
  } catch (const po::error& error) {
    fail(ExitCode::usage, "{}; see 'lox {} --help'", error.what(), command_);
  }
  for (const std::string& name : positional_) {
    if (!values.contains(name)) fail(ExitCode::usage, "{} is missing; see 'lox {} --help'", name, command_);
  }
  return true;
}

bool Options::parse(const Arguments& arguments, po::variables_map& values) {
  const bool go_on = read(arguments, values);
  fmt::print("{}", help_text_);
  return go_on;
}

nlohmann::ordered_json Options::asked(const po::variables_map& values) const {
  nlohmann::ordered_json all{{"the version of lox", version()}, {"the command", command_}};
  all["--help"] = !help_text_.empty();
  for (const std::string& name : positional_) {
    const bool rest = rest_ != nullptr && name == positional_.back();
    if (rest) {
      all[name] = *rest_;
    } else {
      all[name] = values.contains(name) ? values[name].as<std::string>() : "";
    }
  }
  for (const auto& [name, value] : held_) all["--" + name] = value();
  return all;
}

bool is_first_of(const char* option, const std::string& word, const char* first, const char* second) {
  if (word != first && word != second)
    fail(ExitCode::usage, "{} '{}' is neither {} nor {}", option, word, first, second);
  return word == first;
}

}  // namespace lox
