// SPDX-License-Identifier: MIT
#include "lox/linalg/process_grid.hpp"

#include <set>

#include <gtest/gtest.h>

namespace lox {
namespace {

TEST(ProcessGrid, ShapeFollowsTheRule) {
  const auto shape = [](int ranks, Index m, Index n) {
    const GridShape s = choose_grid(ranks, m, n);
    return std::pair(s.rows, s.cols);
  };
  EXPECT_EQ(shape(1, 10, 10), std::pair(1, 1));
  EXPECT_EQ(shape(2, 20, 10), std::pair(2, 1));
  EXPECT_EQ(shape(2, 10, 20), std::pair(1, 2));
  EXPECT_EQ(shape(3, 20, 10), std::pair(3, 1));
  EXPECT_EQ(shape(4, 20, 10), std::pair(2, 2));
  EXPECT_EQ(shape(5, 20, 10), std::pair(2, 2));
  EXPECT_EQ(shape(6, 10, 20), std::pair(2, 3));
  EXPECT_EQ(shape(7, 20, 10), std::pair(3, 2));
  EXPECT_EQ(shape(16, 10, 10), std::pair(4, 4));
  for (int ranks = 1; ranks <= 300; ++ranks) {
    const GridShape s = choose_grid(ranks, 10, 20);
    EXPECT_LE(s.size(), ranks);
    EXPECT_GE(s.size() * 10, ranks * 8 - 10) << ranks;  // few ranks stay outside
    EXPECT_LE(s.rows, s.cols);
  }
}

TEST(ProcessGrid, BlockSizesAreBounded) {
  EXPECT_EQ(choose_block({2, 2}, 1 << 14, 1 << 13), 128);
  EXPECT_EQ(choose_block({2, 2}, 512, 512), 64);
  EXPECT_EQ(choose_block({7, 1}, 10, 1000), 8);
}

TEST(ProcessGrid, CyclicIndicesCoverEveryIndexOnce) {
  for (const Index n : {0, 1, 7, 8, 9, 63, 64, 65, 1000}) {
    for (const int block : {1, 8, 64}) {
      for (const int processes : {1, 2, 3, 5, 7}) {
        std::set<Index> seen;
        Index total = 0;
        for (int p = 0; p < processes; ++p) {
          const Index mine = local_count(n, block, p, processes);
          total += mine;
          for (Index i = 0; i < mine; ++i) {
            const Index global = global_index(i, block, p, processes);
            EXPECT_LT(global, n);
            EXPECT_EQ(global / block % processes, p);  // the definition of block-cyclic
            seen.insert(global);
          }
        }
        EXPECT_EQ(total, n);
        EXPECT_EQ(static_cast<Index>(seen.size()), n);
      }
    }
  }
}

}  // namespace
}  // namespace lox
