// SPDX-License-Identifier: MIT
#include "lox/run/journal.hpp"

#include "lox/base/checksum.hpp"

#include <algorithm>
#include <map>

#include "run/records.hpp"
#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

using testing::Scratch;

std::vector<Record> some_records() {
  return {testing::edited("layers.0.q"), testing::copied("line\nbreak"), testing::edited("experts", 1),
          testing::edited("слой.вес"), testing::copied("norm")};
}

std::string lines_of(const std::vector<Record>& records) {
  std::string text;
  for (const Record& record : records) text += record_to_json(record).dump() + "\n";
  return text;
}

TEST(Journal, CutAtEveryByte) {
  const std::vector<Record> records = some_records();
  const std::string text = lines_of(records);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string left = text.substr(0, cut);
    const auto whole = static_cast<std::size_t>(std::count(left.begin(), left.end(), '\n'));
    const std::vector<Record> found = Journal::parse(left);
    ASSERT_EQ(found.size(), whole) << "cut at " << cut;
    for (std::size_t i = 0; i < whole; ++i) {
      ASSERT_EQ(record_to_json(found[i]), record_to_json(records[i])) << "cut at " << cut;
    }
  }
}

void append(const fs::path& folder, int run, int rank, std::vector<Record> records) {
  Journal(folder, run, rank).append(records);
}

/// The same with the file and the next run: what a cut leaves of one, and what the other appends, are whole
/// lines.
TEST(Journal, AppendedToAfterACutAtEveryByte) {
  const Scratch scratch;
  const std::vector<Record> records{testing::copied("one"), testing::edited("two")};
  const std::string text = lines_of(records);
  const fs::path file = scratch / "rank-00003.jsonl";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string left = text.substr(0, cut);
    testing::put(file, left);
    const auto whole = static_cast<std::size_t>(std::count(left.begin(), left.end(), '\n'));
    const int run = Journal::next_run(scratch.path());
    ASSERT_EQ(run, 2);
    append(scratch.path(), run, 3, {testing::copied("next")});
    const std::vector<Record> found = Journal::load(scratch.path());
    ASSERT_EQ(found.size(), whole + 1) << "cut at " << cut;
    ASSERT_EQ(found.back().key.name, "next");
    ASSERT_EQ(testing::get(file), left) << "files of an earlier run are not touched";
    fs::remove(scratch / "rank-00003.0002.jsonl");
    fs::remove(scratch / "rank-00003.0002.edges");
  }
}

/// A torn start instead of a torn end: a file system may lose a block in the middle.
TEST(Journal, WithoutItsFirstBytes) {
  const std::vector<Record> records = some_records();
  const std::string text = lines_of(records);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::vector<Record> found = Journal::parse(text.substr(cut));
    std::size_t whole = 0;
    std::size_t start = 0;
    for (const Record& record : records) {
      whole += start >= cut ? 1 : 0;
      start += record_to_json(record).dump().size() + 1;
    }
    ASSERT_EQ(found.size(), whole) << "cut at " << cut;
  }
}

TEST(Journal, GarbageBetweenLinesIsSkipped) {
  const std::vector<Record> records = some_records();
  for (const std::string& garbage :
       {std::string("\n"), std::string("garbage\n"), std::string("{}\n"), std::string("[1,2]\n"),
        std::string("null\n"), std::string("{\"name\":\"layers.0.q\"}\n"), std::string(4096, '\0') + "\n",
        std::string("\xff\xfe\n"), std::string("{\"name\":\n"), std::string(100000, '[') + "\n",
        std::string("1e999\n")}) {
    std::string text;
    for (const Record& record : records) text += garbage + lines_of({record});
    const std::vector<Record> found = Journal::parse(text + garbage);
    ASSERT_EQ(found.size(), records.size()) << garbage.substr(0, 20);
    EXPECT_EQ(lines_of(found), lines_of(records));
  }
}

/// Zeros where a block never reached the disk.
TEST(Journal, ZeroedFromEveryByte) {
  const std::string text = lines_of(some_records());
  for (std::size_t from = 0; from < text.size(); ++from) {
    std::string zeroed = text;
    std::fill(zeroed.begin() + static_cast<std::ptrdiff_t>(from), zeroed.end(), '\0');
    ASSERT_EQ(Journal::parse(zeroed).size(),
              static_cast<std::size_t>(
                  std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(from), '\n')));
  }
}

TEST(Journal, LoadsTheFilesOfAllRanks) {
  const Scratch scratch;
  EXPECT_TRUE(Journal::load(scratch.path()).empty());
  for (const int rank : {0, 1, 17, 123456}) {
    append(scratch.path(), 1, rank, {testing::copied(fmt::format("x{}", rank))});
    append(scratch.path(), 2, rank, {});
    append(scratch.path(), 3, rank, {testing::edited("e", rank), testing::edited("f", rank)});
  }
  testing::put(scratch / "job.json", "{}");
  testing::put(scratch / "lock", "{}");
  EXPECT_EQ(Journal::load(scratch.path()).size(), 12U);
}

TEST(Journal, RunsAreNumberedAndLaterOnesLast) {
  const Scratch scratch;
  for (int run = 1; run <= 11; ++run) {
    EXPECT_EQ(Journal::next_run(scratch.path()), run);
    append(scratch.path(), run, run % 3, {testing::copied(fmt::format("run {}", run))});
  }
  const std::vector<Record> found = Journal::load(scratch.path());
  ASSERT_EQ(found.size(), 11U);
  for (int run = 1; run <= 11; ++run) {
    EXPECT_EQ(found[static_cast<std::size_t>(run - 1)].key.name, fmt::format("run {}", run));
  }
}

TEST(Journal, TellsThatItWasRemoved) {
  const Scratch scratch;
  Journal journal(scratch.path(), 1, 0);
  fs::remove(scratch / "rank-00000.jsonl");
  std::vector<Record> records{testing::copied("x")};
  testing::expect_error(ExitCode::io, [&] { journal.append(records); },
                        {"rank-00000.jsonl", "removed while lox ran"});
}

/// Two records with edges of their own, in the journal.
std::vector<Record> with_edges(const fs::path& folder) {
  std::vector<Record> records{testing::copied("a"), testing::copied("b")};
  std::byte value{1};
  for (Record& record : records) {
    for (const std::size_t bytes : {3, 5000}) {
      const std::vector<std::byte> content(bytes, value);
      record.edges.push_back({0, 1, 7, bytes, checksum(content), 0, 0, 0, content});
      value = static_cast<std::byte>(std::to_integer<int>(value) + 1);
    }
  }
  Journal(folder, 4, 2).append(records);
  return records;
}

TEST(Journal, EdgesComeBack) {
  const Scratch scratch;
  const std::vector<Record> records = with_edges(scratch.path());
  const std::vector<Record> found = Journal::load(scratch.path());
  ASSERT_EQ(found.size(), 2U);
  int value = 1;
  for (const Record& record : found) {
    for (const Edge& edge : record.edges) {
      EXPECT_EQ(edge.first, 7U);
      EXPECT_TRUE(edge.waits.empty());
      EXPECT_EQ(EdgeReader(scratch.path()).read(edge),
                std::vector<std::byte>(edge.bytes, static_cast<std::byte>(value++)));
    }
  }
  EXPECT_EQ(value, 5);
}

/// An item whose edges a crash has taken is not finished.
TEST(Journal, WithoutItsEdgesAnItemIsToBeDoneAgain) {
  const Scratch scratch;
  (void)with_edges(scratch.path());
  const fs::path file = scratch / "rank-00002.0004.edges";
  ASSERT_EQ(fs::file_size(file), 10006U);
  fs::resize_file(file, 10005);
  ASSERT_EQ(Journal::load(scratch.path()).size(), 1U);
  fs::resize_file(file, 10006);  // a zero where a 4 was
  ASSERT_EQ(Journal::load(scratch.path()).size(), 1U);
  fs::resize_file(file, 100);
  EXPECT_TRUE(Journal::load(scratch.path()).empty());
  fs::remove(file);
  EXPECT_TRUE(Journal::load(scratch.path()).empty());
}

TEST(Journal, LatestRecordOfAnItemCounts) {
  Record later = testing::edited("a");
  later.spectrum.iterations = 99;
  const std::vector<Record> kept =
      latest({testing::edited("a"), testing::edited("a", 1), testing::copied("b"), later});
  ASSERT_EQ(kept.size(), 3U);
  std::map<std::pair<std::string, std::int64_t>, int> iterations;
  for (const Record& record : kept)
    iterations[{record.key.name, record.key.matrix}] = record.spectrum.iterations;
  EXPECT_EQ((iterations[{"a", 0}]), 99);
  EXPECT_EQ((iterations[{"a", 1}]), 7);
}

TEST(Journal, RunsThatFinishedNothing) {
  const Scratch scratch;
  const auto idle = [&] { return Journal::idle_runs(scratch.path()); };
  EXPECT_EQ(idle(), 0);
  append(scratch.path(), 1, 0, {});
  append(scratch.path(), 1, 1, {testing::copied("one")});
  EXPECT_EQ(idle(), 0);
  for (int run = 2; run <= 4; ++run) {
    append(scratch.path(), run, 0, {});
    append(scratch.path(), run, 1, {});
    EXPECT_EQ(idle(), run - 1);
  }
  append(scratch.path(), 5, 1, {testing::copied("two")});
  EXPECT_EQ(idle(), 0);
}

}  // namespace
}  // namespace lox
