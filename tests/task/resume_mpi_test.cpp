// SPDX-License-Identifier: MIT
#include "lox/base/checksum.hpp"
#include "lox/io/storage.hpp"
#include "lox/run/journal.hpp"
#include "lox/task/resume.hpp"

#include "support/scratch.hpp"
#include "task/models.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

/// A finished half of a pair in one folder for all ranks, as an output; a record for each of its tensors.
class ResumeTest : public ::testing::Test {
 protected:
  ResumeTest() : root_(comm_.broadcast(scratch_.path().string())) {
    if (comm_.is_root()) testing::put_half(root_ / "out", true);
    comm_.barrier();
    output_ = open_checkpoint(root_ / "out");
    FileStorage storage(output_, FileStorage::Access::read);
    for (std::size_t i = 0; i < output_.tensors.size(); ++i) {
      const TensorInfo& tensor = output_.tensors[i];
      std::vector<std::byte> bytes(tensor.extent.bytes);
      storage.read(tensor, 0, bytes);
      Record record;
      record.key = {tensor.name, 0, Action::copy, tensor.elements()};
      record.pieces = {{0, static_cast<int>(i), 0, bytes.size(), checksum(bytes)}};
      records_.push_back(record);
    }
  }
  ~ResumeTest() override { comm_.barrier(); }

  std::vector<std::string> names(const std::vector<Record>& records) {
    std::vector<std::string> all;
    for (const Record& record : records) all.push_back(record.key.name);
    return all;
  }
  std::vector<std::string> rechecked() {
    comm_.barrier();
    return names(recheck(comm_, output_, root_ / "journal", records_, Log()));
  }
  /// Changes one byte of a tensor, on rank 0.
  void damage(std::size_t tensor, std::uint64_t at) {
    comm_.barrier();
    if (comm_.is_root()) {
      FileStorage storage(output_, FileStorage::Access::write);
      const std::byte other{0x5A};
      storage.write(output_.tensors[tensor].extent, at, std::span(&other, 1));
    }
    comm_.barrier();
  }

  testing::Scratch scratch_;
  Comm comm_ = Comm::world();
  fs::path root_;
  Checkpoint output_;
  std::vector<Record> records_;
};

TEST_F(ResumeTest, RecordsTravel) {
  const std::vector<Record> all =
      broadcast_records(comm_, comm_.is_root() ? records_ : std::vector<Record>());
  EXPECT_EQ(names(all), names(records_));
  EXPECT_EQ(all[1].pieces[0].xxh3, records_[1].pieces[0].xxh3);
  std::vector<Record> mine(1);
  mine[0].key.name = "of rank " + std::to_string(comm_.rank());
  const std::vector<Record> gathered = gather_records(comm_, mine);
  ASSERT_EQ(gathered.size(), comm_.is_root() ? static_cast<std::size_t>(comm_.size()) : 0U);
  for (std::size_t i = 0; i < gathered.size(); ++i) {
    EXPECT_EQ(gathered[i].key.name, "of rank " + std::to_string(i));
  }
}

TEST_F(ResumeTest, FinishedItemsAreDropped) {
  std::vector<Item> items(3);
  items[0].matrix = {{0, 0}, 0, 96, 40};
  items[1].matrix = {{1, 1}, 0, 30, 50};
  items[2].matrix = {{1, 1}, 1, 30, 50};  // the second of the batch
  std::vector<Record> finished(3);
  finished[0].key = {output_.tensors[1].name, 1, Action::edit, 1500};
  finished[1].key = {"no tensor of the model", 0, Action::copy, 1};
  finished[2].key = {output_.tensors[0].name, 7, Action::edit, 1};  // no such matrix
  drop_finished(items, output_, finished);
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[0].matrix.tensor(aligned_model), 0);
  EXPECT_EQ(items[1].matrix.number, 0);
}

TEST_F(ResumeTest, WhatIsNotAsItWasWrittenIsDoneAgain) {
  EXPECT_EQ(rechecked(), names(records_));
  damage(1, 100);
  std::vector<std::string> left = names(records_);
  left.erase(left.begin() + 1);
  EXPECT_EQ(rechecked(), left);
}

TEST_F(ResumeTest, PiecesThatAreNoneCount) {
  records_[0].pieces[0].tensor = 77;
  records_[2].pieces[0].bytes += 1;
  EXPECT_EQ(rechecked(), (std::vector<std::string>{records_[1].key.name, records_[3].key.name}));
}

/// Edges count as what waits in the journal, whatever stands in the output, and are put there at the end.
TEST_F(ResumeTest, EdgesComeFromTheJournal) {
  if (comm_.is_root()) {
    fs::create_directory(root_ / "journal");
    FileStorage storage(output_, FileStorage::Access::read);
    Edge edge{0, 0, 10, 5, 0, 0, 0, 0, std::vector<std::byte>(5)};
    storage.read(output_.tensors[0], edge.first, edge.waits);
    edge.xxh3 = checksum(edge.waits);
    records_[0].edges = {edge};
    Journal(root_ / "journal", 1, 0).append(std::span(records_.data(), 1));
  }
  records_ = broadcast_records(comm_, records_);
  damage(0, 12);
  EXPECT_EQ(rechecked(), names(records_));
  if (comm_.is_root()) put_edges(root_ / "journal", records_, {&output_});
  comm_.barrier();
  records_[0].edges.clear();
  EXPECT_EQ(rechecked(), names(records_)) << "now without the journal";
}

}  // namespace
}  // namespace lox
