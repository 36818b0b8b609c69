// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>
#include <string>

namespace lox {

/// "8GiB", "500MB", "1.5TiB", "4096" -> bytes. K/M/G/T alone are binary, as in Slurm; "GB" is decimal, "GiB"
/// binary. Throws Error(usage) naming `what`.
std::uint64_t parse_bytes(const std::string& text, const std::string& what);

/// "10GB/s", or "10GB": bytes a second. A number alone is refused: nobody's disk moves 10 bytes. Throws
/// Error(usage) naming `what`.
double parse_rate(const std::string& text, const std::string& what);

/// "1 rank", "2 ranks". `several`: the plural, where it is not made by an s.
std::string count_of(std::int64_t count, const std::string& noun, const std::string& several = "");

/// "90s", "15m", "2h", "2d", and as in Slurm "15:00", "1:30:00", "1-12", "1-12:00:00" -> seconds. A number
/// alone is refused: minutes to Slurm, seconds to others. Throws Error(usage) naming `what`.
double parse_seconds(const std::string& text, const std::string& what);

/// "13.5 GB" (decimal, as disks are sold and tools print).
std::string format_bytes(double bytes);

/// "1h 02m", "3m 20s", "4.2s".
std::string format_seconds(double seconds);

}  // namespace lox
