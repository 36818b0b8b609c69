// SPDX-License-Identifier: MIT
#include "lox/run/progress.hpp"

#include "lox/plan/item.hpp"

#include <gtest/gtest.h>

namespace lox {
namespace {

TEST(ProgressLine, ShowsShareItemsBytesSpeedAndTime) {
  EXPECT_EQ(progress_line({4000, 40}, {1000, 10}, {1000, 9}, 2, false),
            " 50%  19/40 tensors  2.00 kB of 4.00 kB  500 B/s  4.0s left");
  EXPECT_EQ(progress_line({4000, 40}, {1000, 10}, {3000, 30}, 2, true),
            "100%  40/40 tensors  4.00 kB of 4.00 kB  1.50 kB/s  in 2.0s");
}

TEST(ProgressLine, BeforeTheFirstByteNoTimeIsGuessed) {
  EXPECT_EQ(progress_line({4000, 40}, {1000, 10}, {}, 2, false),
            " 25%  10/40 tensors  1.00 kB of 4.00 kB  0 B/s  ");
}

/// On the grid aligned rows are read twice: a total that forgot it would be passed.
TEST(BytesMoved, CountsWhatIsReadTwice) {
  Item item;
  item.action = Action::edit;
  item.matrix.rows = 10;
  item.matrix.cols = 20;
  item.base_dtype = DType::F32;
  item.bytes = 400;
  EXPECT_EQ(bytes_moved(item), 400U + 800U + 400U);
  item.where = Where::grid;
  EXPECT_EQ(bytes_moved(item), 2 * 400U + 800U + 400U);
  item.method = Method::full;  // one pass reads, adds and writes
  EXPECT_EQ(bytes_moved(item), 400U + 800U + 400U);
  item.action = Action::copy;
  EXPECT_EQ(bytes_moved(item), 2 * 400U);
}

}  // namespace
}  // namespace lox
