// SPDX-License-Identifier: MIT
#pragma once

namespace lox {

/// The program's version, "major.minor.patch".
const char* version();

}  // namespace lox
