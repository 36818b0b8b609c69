// SPDX-License-Identifier: MIT
#include "lox/run/record.hpp"

#include "lox/base/checksum.hpp"

#include <array>
#include <limits>

#include "run/records.hpp"
#include "support/expect_error.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

void expect_same(const Record& x, const Record& y) {
  EXPECT_EQ(x.key.name, y.key.name);
  EXPECT_EQ(x.key.matrix, y.key.matrix);
  EXPECT_EQ(x.key.action, y.key.action);
  EXPECT_EQ(x.key.entries, y.key.entries);
  EXPECT_EQ(x.spectrum.method, y.spectrum.method);
  EXPECT_EQ(x.spectrum.where, y.spectrum.where);
  EXPECT_EQ(x.spectrum.k, y.spectrum.k);
  EXPECT_EQ(x.spectrum.sigma, y.spectrum.sigma);
  EXPECT_EQ(x.spectrum.certificate, y.spectrum.certificate);
  EXPECT_EQ(x.spectrum.missed, y.spectrum.missed);
  EXPECT_EQ(x.spectrum.settled, y.spectrum.settled);
  EXPECT_EQ(x.spectrum.iterations, y.spectrum.iterations);
  EXPECT_EQ(x.spectrum.delta_norm, y.spectrum.delta_norm);
  ASSERT_EQ(x.edits.size(), y.edits.size());
  for (std::size_t i = 0; i < x.edits.size(); ++i) {
    EXPECT_EQ(x.edits[i].norm, y.edits[i].norm);
    EXPECT_EQ(x.edits[i].realised_dot, y.edits[i].realised_dot);
    EXPECT_EQ(x.edits[i].changed, y.edits[i].changed);
  }
  EXPECT_EQ(x.timing.read, y.timing.read);
  EXPECT_EQ(x.timing.svd, y.timing.svd);
  EXPECT_EQ(x.timing.write, y.timing.write);
  EXPECT_EQ(x.timing.bytes_read, y.timing.bytes_read);
  EXPECT_EQ(x.timing.bytes_written, y.timing.bytes_written);
  ASSERT_EQ(x.pieces.size(), y.pieces.size());
  for (std::size_t i = 0; i < x.pieces.size(); ++i) {
    EXPECT_EQ(x.pieces[i].target, y.pieces[i].target);
    EXPECT_EQ(x.pieces[i].tensor, y.pieces[i].tensor);
    EXPECT_EQ(x.pieces[i].first, y.pieces[i].first);
    EXPECT_EQ(x.pieces[i].bytes, y.pieces[i].bytes);
    EXPECT_EQ(x.pieces[i].xxh3, y.pieces[i].xxh3);
  }
}

Record round_trip(const Record& record) {
  return record_from_json(nlohmann::json::parse(record_to_json(record).dump()));
}

TEST(Record, RoundTrip) {
  for (const Record& record : {testing::edited("a"), testing::edited("b", 5), testing::copied("c")}) {
    expect_same(round_trip(record), record);
  }
}

TEST(Record, RoundTripOfAnAnalysis) {
  Record record = testing::copied("a");
  EXPECT_FALSE(round_trip(record).analysis.has_value());
  record.key.action = Action::analyse;
  const double third = 1.0 / 3;
  record.analysis =
      Analysis{third, {{0.1, {third, 1}, {0.2, 0.3}, {0.4, 0.5}, {{third}, {1, 2}}, {{3}, {}}}, {}}};
  const Record found = round_trip(record);
  EXPECT_EQ(found.key.action, Action::analyse);
  EXPECT_EQ(found.analysis->weight_norm, third);
  ASSERT_EQ(found.analysis->tuned.size(), 2U);
  const TunedMatrix& tuned = found.analysis->tuned[0];
  EXPECT_EQ(tuned.delta_norm, 0.1);
  EXPECT_EQ(tuned.share, (std::vector{third, 1.0}));
  EXPECT_EQ(tuned.overlap_left, (std::vector{0.2, 0.3}));
  EXPECT_EQ(tuned.overlap_right, (std::vector{0.4, 0.5}));
  EXPECT_EQ(tuned.angles_left, (std::vector<std::vector<double>>{{third}, {1, 2}}));
  EXPECT_EQ(tuned.angles_right, (std::vector<std::vector<double>>{{3}, {}}));
}

TEST(Record, RoundTripOfProducts) {
  Record record = testing::edited("a");
  EXPECT_TRUE(round_trip(record).products.empty());
  record.products = {1.0 / 3, -2e-300, 0};
  EXPECT_EQ(round_trip(record).products, record.products);
}

TEST(Record, RoundTripOfEveryWord) {
  for (const Method method : {Method::krylov, Method::exact, Method::full}) {
    for (const Where where : {Where::local, Where::grid}) {
      Record record = testing::edited("a");
      record.spectrum.method = method;
      record.spectrum.where = where;
      expect_same(round_trip(record), record);
    }
  }
}

TEST(Record, RoundTripOfOddNamesAndExtremeNumbers) {
  for (const std::string& name :
       {std::string(), std::string("a\nb\t\"\\/"), std::string("слой ☃"), std::string("\x01\x7f")}) {
    Record record = testing::edited(name);
    record.spectrum.certificate.residual = std::numeric_limits<double>::denorm_min();
    record.spectrum.delta_norm = std::numeric_limits<double>::max();
    record.key.entries = std::numeric_limits<std::int64_t>::max();
    record.timing.bytes_read = UINT64_MAX;
    const Record again = round_trip(record);
    expect_same(again, record);
    EXPECT_EQ(record_to_json(again).dump().find('\n'), std::string::npos) << "a record is one line";
  }
}

TEST(Record, WhatLacksAFieldIsRefused) {
  for (const Record& record : {testing::edited("a"), testing::copied("b")}) {
    const nlohmann::json whole = record_to_json(record);
    for (const auto& [key, value] : whole.items()) {
      nlohmann::json less = whole;
      less.erase(key);
      EXPECT_ANY_THROW(record_from_json(less)) << key;
      nlohmann::json other = whole;
      other[key] = nullptr;
      if (key != "pieces" && key != "edits" && key != "edges") {
        EXPECT_ANY_THROW(record_from_json(other)) << key;
      }
    }
  }
}

TEST(Record, UnknownWordsAreRefused) {
  for (const char* key : {"action", "method", "where"}) {
    nlohmann::json json = record_to_json(testing::edited("a"));
    (json.contains(key) ? json : json["spectrum"])[key] = "magic";
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
