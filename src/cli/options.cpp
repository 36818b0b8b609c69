// SPDX-License-Identifier: MIT
#include "lox/cli/options.hpp"

#include "lox/base/version.hpp"
#include "lox/cli/manual.hpp"

#include <algorithm>
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

}  // namespace

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
  try {
    po::store(po::parse_config_file(text, described_), values);
  } catch (const po::error& error) {
    fail(ExitCode::usage, "{}: {}", path, error.what());
  }
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

}  // namespace lox
