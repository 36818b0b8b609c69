// SPDX-License-Identifier: MIT
#include "lox/run/report.hpp"

#include "lox/plan/job.hpp"
#include "lox/run/journal.hpp"
#include "lox/run/workspace.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "run/models.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

std::vector<TensorRecord> records_of_a_run() {
  TensorRecord second = testing::edited("experts", 1);
  second.certificate = {0.25, 0.5};
  second.missed = {0.2, 2e-9};
  second.settled = true;
  second.where = Where::local;
  TensorRecord same = testing::edited("b");
  same.action = Action::copy;  // nothing to edit: base and aligned are the same
  same.sigma.clear();
  same.delta_norm = 0;
  return {testing::edited("a"), same, testing::edited("experts", 0), second, testing::copied("norm")};
}

nlohmann::ordered_json report_of(const std::vector<TensorRecord>& records) {
  const testing::Scratch scratch;
  Job job;
  job.base = "base";
  job.output = "out";
  RunTotals totals;
  totals.seconds = 12.5;
  totals.peak_rss_bytes = 1 << 20;
  totals.ranks = 3;
  return make_report(job, testing::put_model(scratch / "m.safetensors"), records, totals);
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
    std::vector<TensorRecord> records = records_of_a_run();
    std::shuffle(records.begin(), records.end(), random);
    for (std::size_t r = 0; r < records.size(); ++r) {
      Journal(scratch.path(), static_cast<int>(random() % 3)).append({records[r]});
    }
    EXPECT_EQ(report_of(latest(Journal::load(scratch.path()))).dump(), expected);
  }
}

TEST(Report, PeakMemoryIsSomething) {
  EXPECT_GT(peak_rss_bytes(), std::uint64_t{1} << 20);
}

}  // namespace
}  // namespace lox
