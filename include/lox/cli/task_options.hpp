// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/options.hpp"
#include "lox/task/synth.hpp"

#include <string>

namespace lox {

/// What `convert` and `synth` are asked, and `plan` of each of them: one struct a command. Call finish()
/// after parsing.

struct ConvertArguments {
  fs::path source;
  fs::path target;
  bool overwrite = false;
  bool quiet = false;
  void add_to(Options& options);
  void finish(const boost::program_options::variables_map& values);
};

struct SynthArguments {
  SynthOptions synth;
  std::string role = "base";
  std::string quantised = "none";
  bool quiet = false;
  void add_to(Options& options);
  void finish(const boost::program_options::variables_map& values);
};

}  // namespace lox
