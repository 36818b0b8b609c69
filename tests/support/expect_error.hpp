// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/error.hpp"

#include <initializer_list>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace lox::testing {

/// Expects that `action` throws an Error with this code, on one line, whose text holds all of `parts`.
template <class Action>
void expect_error(ExitCode code, Action action, std::initializer_list<std::string_view> parts) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    for (const std::string_view part : parts) {
      EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks " << part;
    }
    return;
  }
  ADD_FAILURE() << "nothing was thrown";
}

}  // namespace lox::testing
