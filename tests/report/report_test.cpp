// SPDX-License-Identifier: MIT
#include "lox/report/report.hpp"

#include "lox/base/site.hpp"
#include "lox/report/json.hpp"
#include "lox/report/text.hpp"
#include "lox/run/journal.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "io/models.hpp"
#include "run/records.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

std::vector<Record> records_of_a_run() {
  Record second = testing::edited("experts", 1);
  second.spectrum.certificate = {0.25, 0.5};
  second.spectrum.missed = {0.2, 2e-9};
  second.spectrum.settled = true;
  second.spectrum.where = Where::local;
  Record same = testing::edited("b");
  same.key.action = Action::copy;  // nothing to edit: base and aligned are the same
  same.spectrum.sigma.clear();
  same.spectrum.delta_norm = 0;
  same.edits.clear();
  return {testing::edited("a"), same, testing::edited("experts", 0), second, testing::copied("norm")};
}

nlohmann::ordered_json report_of(const std::vector<Record>& records) {
  const testing::Scratch scratch;
  const nlohmann::ordered_json job{{"k", 6}, {"coef", 1.25}, {"seed", 0}, {"output", "out"}};
  RunTotals totals;
  totals.seconds = 12.5;
  totals.peak_rss_bytes = 1 << 20;
  totals.ranks = 3;
  return report_to_json(make_report(job, testing::put_model(scratch / "m.safetensors"), records, totals));
}

TEST(Report, HasWhatTheContractSays) {
  const nlohmann::ordered_json report = report_of(records_of_a_run());
  EXPECT_EQ(report["totals"]["tensors"], 4);
  EXPECT_EQ(report["totals"]["edited"], 2);
  EXPECT_EQ(report["totals"]["copied"], 2);
  EXPECT_EQ(report["totals"]["bytes_read"], 4 * 96 + 12);
  EXPECT_EQ(report["totals"]["bytes_written"], 4 * 48 + 12);
  EXPECT_EQ(report["totals"]["seconds"], 12.5);
  EXPECT_EQ(report["totals"]["peak_rss_bytes"], 1 << 20);
  EXPECT_EQ(report["totals"]["ranks"], 3);
  EXPECT_EQ(report["job"]["k"], 6);
  EXPECT_EQ(report["job"]["output"], "out");
  for (const nlohmann::ordered_json& tensor : report["tensors"]) {
    for (const char* key : {"name", "shape", "dtype", "action", "seconds"})
      EXPECT_TRUE(tensor.contains(key)) << key;
    if (tensor["action"] != "edited") continue;
    for (const char* key : {"method", "where", "k", "sigma", "certificate", "iterations", "delta_norm",
                            "energy", "edit_norm", "realised", "changed"}) {
      EXPECT_TRUE(tensor.contains(key)) << tensor["name"] << " lacks " << key;
    }
  }
}

TEST(Report, NumbersFollowFromTheRecord) {
  const nlohmann::ordered_json report = report_of(records_of_a_run());
  const auto entry = std::find_if(report["tensors"].begin(), report["tensors"].end(),
                                  [](const nlohmann::ordered_json& tensor) { return tensor["name"] == "a"; });
  ASSERT_NE(entry, report["tensors"].end());
  EXPECT_DOUBLE_EQ((*entry)["energy"].get<double>(), (3.25 * 3.25 + 0.1 * 0.1) / (4.5 * 4.5));
  EXPECT_DOUBLE_EQ((*entry)["realised"].get<double>(), 30.1 / (5.625 * 5.625));
  EXPECT_DOUBLE_EQ((*entry)["changed"].get<double>(), 23.0 / 24);
  EXPECT_EQ((*entry)["seconds"]["svd"], 0.2);
}

TEST(Report, BatchHasEachMatrixAndTheWorst) {
  const nlohmann::ordered_json report = report_of(records_of_a_run());
  const auto entry =
      std::find_if(report["tensors"].begin(), report["tensors"].end(),
                   [](const nlohmann::ordered_json& tensor) { return tensor["name"] == "experts"; });
  ASSERT_NE(entry, report["tensors"].end());
  ASSERT_EQ((*entry)["batch"].size(), 2U);
  EXPECT_EQ((*entry)["batch"][0]["where"], "grid");
  EXPECT_EQ((*entry)["batch"][1]["where"], "local");
  EXPECT_EQ((*entry)["certificate"], 1.0 / 3);
  EXPECT_DOUBLE_EQ((*entry)["delta_norm"].get<double>(), std::sqrt(2 * 4.5 * 4.5));
}

/// It is made of the journal: any order of records, through any number of runs, gives the same.
TEST(Report, WholeAfterAnyNumberOfResumes) {
  const std::string expected = report_of(records_of_a_run()).dump();
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    const testing::Scratch scratch;
    std::vector<Record> records = records_of_a_run();
    std::shuffle(records.begin(), records.end(), random);
    for (std::size_t r = 0; r < records.size(); ++r) {
      Journal(scratch.path(), Journal::next_run(scratch.path()), static_cast<int>(random() % 3))
          .append(std::span(records).subspan(r, 1));
    }
    EXPECT_EQ(report_of(latest(Journal::load(scratch.path()))).dump(), expected);
  }
}

/// What was read back is what was written: the table of a file is the table of the run.
TEST(Report, ReadBackIsTheSame) {
  const nlohmann::ordered_json json = report_of(records_of_a_run());
  const Report again = report_from_json(json);
  EXPECT_EQ(again.tensors.size(), 4U);
  nlohmann::ordered_json once_more = report_to_json(again);
  once_more["totals"] = json["totals"];  // seconds of the ranks are not read back
  EXPECT_EQ(once_more.dump(1), json.dump(1));
}

TEST(Report, TableShowsKindsInTheOrderOfTheModel) {
  const std::string table = report_table(report_from_json(report_of(records_of_a_run())));
  EXPECT_LT(table.find("\na "), table.find("\nexperts "));
  EXPECT_NE(table.find("k = 6, coef = 1.25: 2 tensors edited, 2 copied"), std::string::npos) << table;
  for (const char* column : {"energy", "edit/delta", "realised", "changed", "certificate", "missed"}) {
    EXPECT_NE(table.find(column), table.rfind(column)) << column << ": in the head and in the legend";
  }
}

TEST(Report, PeakMemoryIsSomething) {
  EXPECT_GT(peak_memory(), std::uint64_t{1} << 20);
}

}  // namespace
}  // namespace lox
