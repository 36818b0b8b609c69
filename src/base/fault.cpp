// SPDX-License-Identifier: MIT
#include "lox/base/fault.hpp"

namespace lox {

__attribute__((weak)) void fault_point(const char*) {}

}  // namespace lox
