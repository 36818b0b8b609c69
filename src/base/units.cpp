// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"

#include "lox/base/error.hpp"

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

namespace lox {

std::uint64_t parse_bytes(const std::string& text, const std::string& what) {
  double value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  std::string unit(end, last);
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  while (!unit.empty() && unit.front() == ' ') unit.erase(0, 1);
  double factor = 0;
  if (unit.empty() || unit == "b") factor = 1;
  constexpr std::array<char, 4> prefixes{'k', 'm', 'g', 't'};
  for (std::size_t i = 0; i < prefixes.size(); ++i) {
    const std::string prefix(1, prefixes[i]);
    const int power = static_cast<int>(i) + 1;
    if (unit == prefix || unit == prefix + "ib") factor = std::pow(1024.0, power);
    if (unit == prefix + "b") factor = std::pow(1000.0, power);
  }
  const double bytes = value * factor;
  if (error != std::errc() || factor == 0 || !(bytes >= 1) || bytes > 9e18) {
    fail(ExitCode::usage, "{} '{}' is not a size; write it like 8GiB, 500MB or 4096", what, text);
  }
  return static_cast<std::uint64_t>(bytes);
}

double parse_rate(const std::string& text, const std::string& what) {
  const std::string bytes = text.ends_with("/s") ? text.substr(0, text.size() - 2) : text;
  if (bytes.find_first_not_of("0123456789.eE+- ") == std::string::npos) {
    fail(ExitCode::usage, "{} '{}' has no unit; write it like 10GB/s or 500MB/s", what, text);
  }
  return static_cast<double>(parse_bytes(bytes, what));
}

std::string count_of(std::int64_t count, const std::string& noun, const std::string& several) {
  if (count == 1) return "1 " + noun;
  return fmt::format("{} {}", count, several.empty() ? noun + "s" : several);
}

double parse_seconds(const std::string& text, const std::string& what) {
  const auto refuse = [&](const char* why) {
    fail(ExitCode::usage, "{} '{}' {}; write it like 90s, 15m, 2h, 1:30:00 or 1-12:00:00", what, text, why);
  };
  constexpr const char* no_time = "is not a time";
  const char* at = text.data();
  const char* const last = at + text.size();
  const auto number = [&] {
    double value = 0;
    const auto [end, error] = std::from_chars(at, last, value);
    if (error != std::errc() || !(value >= 0)) refuse(no_time);
    at = end;
    return value;
  };
  double total = number();
  const std::string unit(at, last);
  if (unit == "s") return total;
  if (unit == "m") return total * 60;
  if (unit == "h") return total * 3600;
  if (unit == "d") return total * 86400;
  // To Slurm it would be minutes, and seconds is what it looks like.
  if (unit.empty()) refuse("has no unit");
  // As in Slurm: m:s, h:m:s, and after days h, h:m or h:m:s.
  const bool days = *at == '-';
  int parts = 1;
  double rest = days ? 0 : total;
  if (days) {
    ++at;
    rest = number();
  }
  while (at < last && parts < 3) {
    if (*at++ != ':') refuse(no_time);
    rest = rest * 60 + number();
    ++parts;
  }
  if (at < last) refuse(no_time);
  if (!days) return rest;
  for (; parts < 3; ++parts) rest *= 60;
  return total * 86400 + rest;
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 6> units{"B", "kB", "MB", "GB", "TB", "PB"};
  std::size_t i = 0;
  while (bytes >= 999.5 && i + 1 < units.size()) {
    bytes /= 1000;
    ++i;
  }
  return fmt::format("{:.{}f} {}", bytes, i == 0 ? 0 : bytes < 9.995 ? 2 : bytes < 99.95 ? 1 : 0, units[i]);
}

std::string format_seconds(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  if (seconds < 59.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m", whole / 3600, whole % 3600 / 60);
}

}  // namespace lox
