// SPDX-License-Identifier: MIT
#pragma once

namespace lox {

/// A place where a test may make something go wrong. Does nothing in the program; test builds link another
/// one (tests/support/fault.cpp).
void fault_point(const char* place);

}  // namespace lox
