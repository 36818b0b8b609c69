// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"

namespace lox {

/// Throws Error(bad_input) for a folder without *.safetensors: known by its files, what trainers leave (torch
/// DCP, Megatron) is named with the command that converts it.
[[noreturn]] void refuse_without_safetensors(const fs::path& directory);

/// The same for a file of such a checkpoint; returns if it is none.
void refuse_foreign_file(const fs::path& file);

}  // namespace lox
