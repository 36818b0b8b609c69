// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/options.hpp"
#include "lox/task/verify.hpp"

#include <string>

namespace lox {

/// The options that `verify` and its plan share. Call finish() after parsing.
struct VerifyOptions {
  VerifyJob asked;
  std::string k;
  void add_to(Options& options);
  void finish();
};

}  // namespace lox
