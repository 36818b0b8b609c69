// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"

#include "lox/base/error.hpp"

#include <gtest/gtest.h>

namespace lox {
namespace {

TEST(Units, ParsesBytes) {
  EXPECT_EQ(parse_bytes("4096", "--memory"), 4096U);
  EXPECT_EQ(parse_bytes("8GiB", "--memory"), std::uint64_t{8} << 30);
  EXPECT_EQ(parse_bytes("8G", "--memory"), std::uint64_t{8} << 30);
  EXPECT_EQ(parse_bytes("1.5 MB", "--memory"), 1500000U);
}

TEST(Units, RefusesWhatIsNoSize) {
  for (const char* text : {"", "GiB", "-1", "1XB", "nan", "inf", "1e300", "0"}) {
    EXPECT_THROW(parse_bytes(text, "--memory"), Error) << text;
  }
}

TEST(Units, ParsesTimesAsSlurmWritesThem) {
  const auto seconds = [](const char* text) { return parse_seconds(text, "--time-limit"); };
  EXPECT_EQ(seconds("90s"), 90);
  EXPECT_EQ(seconds("1.5h"), 5400);
  EXPECT_EQ(seconds("15m"), 900);
  EXPECT_EQ(seconds("2d"), 172800);
  EXPECT_EQ(seconds("15:30"), 930);
  EXPECT_EQ(seconds("1:30:00"), 5400);
  EXPECT_EQ(seconds("1-00:00:00"), 86400);
  EXPECT_EQ(seconds("1-12"), 129600);
  EXPECT_EQ(seconds("0-1:30"), 5400);
  EXPECT_EQ(seconds("2-01:02:03"), 2 * 86400 + 3723);
}

TEST(Units, RefusesWhatIsNoTime) {
  for (const char* text :
       {"", "90", "-1s", "1x", "1:", ":1", "1:2:3:4", "1-", "1-1:2:3:4", "1-2s", "nans", "1h30m", "1-2-3"}) {
    EXPECT_THROW(parse_seconds(text, "--time-limit"), Error) << text;
  }
}

TEST(Units, Rates) {
  EXPECT_EQ(parse_rate("10GB/s", "--bandwidth"), 1e10);
  EXPECT_EQ(parse_rate("10GB", "--bandwidth"), 1e10);
  EXPECT_EQ(parse_rate("1.5 MiB/s", "--bandwidth"), 1.5 * 1048576);
  for (const char* text : {"", "10", "1e9", "10/s", "/s", "GB/s", "10GB/h", "10GB/s/s", "0GB/s"}) {
    EXPECT_THROW(parse_rate(text, "--bandwidth"), Error) << text;
  }
}

TEST(Units, Counts) {
  EXPECT_EQ(count_of(1, "rank"), "1 rank");
  EXPECT_EQ(count_of(0, "rank"), "0 ranks");
  EXPECT_EQ(count_of(2, "matrix", "matrices"), "2 matrices");
  EXPECT_EQ(count_of(1, "matrix", "matrices"), "1 matrix");
}

TEST(Units, Formats) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1.35e10), "13.5 GB");
  EXPECT_EQ(format_seconds(4.25), "4.2s");
  EXPECT_EQ(format_seconds(200), "3m 20s");
  EXPECT_EQ(format_seconds(3725), "1h 02m");
}

}  // namespace
}  // namespace lox
