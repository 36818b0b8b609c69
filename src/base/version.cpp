// SPDX-License-Identifier: MIT
#include "lox/base/version.hpp"

namespace lox {

const char* version() {
  return LOX_VERSION;
}

}  // namespace lox
