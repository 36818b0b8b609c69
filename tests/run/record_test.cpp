// SPDX-License-Identifier: MIT
#include "lox/run/record.hpp"

#include <array>
#include <limits>

#include "run/models.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

void expect_same(const TensorRecord& x, const TensorRecord& y) {
  EXPECT_EQ(x.name, y.name);
  EXPECT_EQ(x.matrix, y.matrix);
  EXPECT_EQ(x.action, y.action);
  EXPECT_EQ(x.method, y.method);
  EXPECT_EQ(x.where, y.where);
  EXPECT_EQ(x.k, y.k);
  EXPECT_EQ(x.sigma, y.sigma);
  EXPECT_EQ(x.certificate, y.certificate);
  EXPECT_EQ(x.missed, y.missed);
  EXPECT_EQ(x.settled, y.settled);
  EXPECT_EQ(x.iterations, y.iterations);
  EXPECT_EQ(x.delta_norm, y.delta_norm);
  EXPECT_EQ(x.edit_norm, y.edit_norm);
  EXPECT_EQ(x.realised_dot, y.realised_dot);
  EXPECT_EQ(x.entries, y.entries);
  EXPECT_EQ(x.changed, y.changed);
  EXPECT_EQ(x.seconds_read, y.seconds_read);
  EXPECT_EQ(x.seconds_svd, y.seconds_svd);
  EXPECT_EQ(x.seconds_write, y.seconds_write);
  EXPECT_EQ(x.bytes_read, y.bytes_read);
  EXPECT_EQ(x.bytes_written, y.bytes_written);
  ASSERT_EQ(x.pieces.size(), y.pieces.size());
  for (std::size_t i = 0; i < x.pieces.size(); ++i) {
    EXPECT_EQ(x.pieces[i].first, y.pieces[i].first);
    EXPECT_EQ(x.pieces[i].bytes, y.pieces[i].bytes);
    EXPECT_EQ(x.pieces[i].xxh3, y.pieces[i].xxh3);
  }
}

TensorRecord round_trip(const TensorRecord& record) {
  return record_from_json(nlohmann::json::parse(record_to_json(record).dump()));
}

TEST(Record, RoundTrip) {
  for (const TensorRecord& record : {testing::edited("a"), testing::edited("b", 5), testing::copied("c")}) {
    expect_same(round_trip(record), record);
  }
}

TEST(Record, RoundTripOfEveryWord) {
  for (const Method method : {Method::krylov, Method::exact, Method::full}) {
    for (const Where where : {Where::local, Where::grid}) {
      TensorRecord record = testing::edited("a");
      record.method = method;
      record.where = where;
      expect_same(round_trip(record), record);
    }
  }
}

TEST(Record, RoundTripOfOddNamesAndExtremeNumbers) {
  for (const std::string& name :
       {std::string(), std::string("a\nb\t\"\\/"), std::string("слой ☃"), std::string("\x01\x7f")}) {
    TensorRecord record = testing::edited(name);
    record.certificate.residual = std::numeric_limits<double>::denorm_min();
    record.delta_norm = std::numeric_limits<double>::max();
    record.entries = std::numeric_limits<std::int64_t>::max();
    record.bytes_read = UINT64_MAX;
    const TensorRecord again = round_trip(record);
    expect_same(again, record);
    EXPECT_EQ(record_to_json(again).dump().find('\n'), std::string::npos) << "a record is one line";
  }
}

TEST(Record, WhatLacksAFieldIsRefused) {
  for (const TensorRecord& record : {testing::edited("a"), testing::copied("b")}) {
    const nlohmann::json whole = record_to_json(record);
    for (const auto& [key, value] : whole.items()) {
      nlohmann::json less = whole;
      less.erase(key);
      EXPECT_ANY_THROW(record_from_json(less)) << key;
      nlohmann::json other = whole;
      other[key] = nullptr;
      if (key != "pieces") {
        EXPECT_ANY_THROW(record_from_json(other)) << key;
      }
    }
  }
}

TEST(Record, UnknownWordsAreRefused) {
  for (const char* key : {"action", "method", "where"}) {
    nlohmann::json json = record_to_json(testing::edited("a"));
    json[key] = "magic";
    testing::expect_error(ExitCode::bad_input, [&] { record_from_json(json); }, {"magic"});
  }
}

TEST(Record, ChecksumIsXxh3) {
  EXPECT_EQ(checksum({}), 0x2D06800538D394C2U);  // of nothing, from the definition of XXH3
  const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
  EXPECT_NE(checksum(bytes), checksum(std::span(bytes).first(2)));
}

}  // namespace
}  // namespace lox
