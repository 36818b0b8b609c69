// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/cli/command.hpp"

#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/program_options.hpp>
#include <nlohmann/json.hpp>

namespace lox {

/// All that is said of an option anywhere: in --help, the man page, docs/usage.md and the job file.
struct Option {
  std::string name;
  std::string value = {};     ///< what its value is called; empty: a switch
  std::string brief = {};     ///< one line, for --help
  std::string text = {};      ///< for the other places, in Markdown; empty: the brief one
  std::string fallback = {};  ///< the default, where the variable does not say it well
  std::string example = {};   ///< a value for the job file, where there is no default
  bool in_words = true;       ///< the default describes, it is no value; set by Options
  bool path = false;  ///< a path, in which a job file may say ~ and $NAME; set by Options for fs::path
};

/// Whether a job file has a line for this key.
bool job_file_names(const std::string& path, const std::string& key);

/// The options of one command, its help text and how both are used. Every complaint is an Error(usage).
class Options {
 public:
  /// `synopsis` follows the command's name in the help; `text` explains, `example` is shown last.
  Options(std::string command, std::string synopsis, std::string text, std::string example);

  /// An option that sets `to`, a number, a text, a path, a switch or a list. What `to` holds is the default.
  template <class T>
  void add(Option option, T& to) {
    namespace po = boost::program_options;
    held_.emplace_back(option.name, [&to] { return as_json(to); });
    if constexpr (std::is_same_v<T, bool>) {
      add_described(std::move(option), "", po::bool_switch(&to));
    } else if constexpr (std::is_same_v<T, fs::path>) {
      option.path = true;
      add_valued(std::move(option), to.string(),
                 po::value<std::string>()->notifier([&to](const std::string& text) { to = text; }));
    } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
      add_valued(std::move(option), "", po::value(&to));
    } else {
      add_valued(std::move(option), fmt::format("{}", to), po::value(&to));
    }
  }
  /// A required argument without a name.
  void add_positional(const std::string& name);
  /// The last of them, which may stand several times: one word or more.
  void add_positionals(const std::string& name, std::vector<std::string>& to);
  /// What was added until now makes a job of harden, and may also stand in the INI file given by --config;
  /// the command line wins.
  void allow_config_file();

  /// Reads the words. True if the command should go on; false if help was asked for, which help_text() has.
  bool read(const Arguments& arguments, boost::program_options::variables_map& values);
  /// The same for a command of one process: prints the help that was asked for.
  bool parse(const Arguments& arguments, boost::program_options::variables_map& values);
  /// What is to be printed where read() returned false.
  const std::string& help_text() const { return help_text_; }
  /// What was asked for: the program's version, the command, and what every option and every argument
  /// without a name holds now, whether by the words, the job file or as its default.
  nlohmann::ordered_json asked(const boost::program_options::variables_map& values) const;

  const std::string& command() const { return command_; }
  const std::string& synopsis() const { return synopsis_; }
  const std::string& text() const { return text_; }
  const std::string& example() const { return example_; }
  std::span<const Option> listed() const { return listed_; }
  /// Of these, the ones that may stand in a job file.
  std::span<const Option> of_job() const { return std::span(listed_).first(of_job_); }
  std::span<const Option> of_its_own() const { return std::span(listed_).subspan(of_job_); }
  /// The job's options that stood on the command line, as name and value in their order.
  const std::vector<std::pair<std::string, std::string>>& given() const { return given_; }

 private:
  template <class T>
  static nlohmann::ordered_json as_json(const T& value) {
    if constexpr (std::is_same_v<T, fs::path>) {
      return value.native();
    } else {
      return value;
    }
  }
  template <class Semantic>
  void add_valued(Option option, const std::string& held, Semantic* semantic) {
    const std::string fallback = option.fallback.empty() ? held : option.fallback;
    semantic->value_name(held.empty() ? option.value : fmt::format("{} (={})", option.value, fallback));
    add_described(std::move(option), held, semantic);
  }
  void add_described(Option option, const std::string& held,
                     const boost::program_options::value_semantic* semantic);
  std::string help() const;
  void read_config_file(const std::string& path, boost::program_options::variables_map& values) const;
  [[noreturn]] void refuse_extra(const Arguments& arguments) const;
  std::string command_;
  std::string synopsis_;
  std::string text_;
  std::string example_;
  boost::program_options::options_description described_;
  std::vector<Option> listed_;
  std::vector<std::pair<std::string, std::function<nlohmann::ordered_json()>>> held_;
  std::string help_text_;
  std::size_t of_job_ = 0;
  std::vector<std::string> positional_;
  std::vector<std::string>* rest_ = nullptr;  ///< where all words go from the last positional on
  std::vector<std::pair<std::string, std::string>> given_;
};

/// Whether an option has the first of two values. Throws Error(usage) if it has neither.
bool is_first_of(const char* option, const std::string& word, const char* first, const char* second);

}  // namespace lox
