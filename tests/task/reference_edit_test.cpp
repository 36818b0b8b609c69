// SPDX-License-Identifier: MIT
#include "lox/task/reference_edit.hpp"

#include "lox/base/random.hpp"
#include "lox/task/reference_svd.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <Eigen/QR>
#include <Eigen/SVD>
#include <gtest/gtest.h>

namespace lox {
namespace {

using Kind = Judgement::Kind;

Small normal(Index rows, Index cols, std::string_view name) {
  Small matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) {
    matrix.data()[i] = static_cast<double>(normal_at(stream_key(1, name), static_cast<std::uint64_t>(i)));
  }
  return matrix;
}

Small orthonormal(Index rows, Index cols, std::string_view name) {
  return Eigen::HouseholderQR<Small>(normal(rows, cols, name)).householderQ() * Small::Identity(rows, cols);
}

std::vector<std::byte> stored(DType dtype, const RowsInDouble& values) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(values.size() * dtype_bits(dtype)) / 8);
  from_double(dtype, values.data(), static_cast<std::size_t>(values.size()), bytes.data());
  return bytes;
}

/// A pair of models with W_aligned - W_base as given, kept in doubles; the aligned one is of `dtype`.
class Pair {
 public:
  Pair(const Small& delta, DType dtype = DType::BF16, double weights = 0.02)
      : dtype_(dtype), rows_(delta.rows()), cols_(delta.cols()) {
    aligned_ = stored(dtype, weights * normal(rows_, cols_, "weights"));
    weights_.resize(rows_, cols_);
    to_double(dtype, aligned_.data(), static_cast<std::size_t>(weights_.size()), weights_.data());
    base_ = stored(DType::F64, weights_ - delta);
  }
  const RowsInDouble& weights() const { return weights_; }
  /// The judgement of W + edit, rounded.
  Judgement judge(const Small& edit, Index k, double coef = 1.25) const {
    const std::vector<std::byte> hardened = stored(dtype_, weights_ + edit);
    return judge_edit({rows_, cols_, rows_, DType::F64, dtype_, dtype_, base_, aligned_, hardened}, k, coef);
  }

 private:
  DType dtype_;
  Index rows_;
  Index cols_;
  std::vector<std::byte> aligned_;
  std::vector<std::byte> base_;
  RowsInDouble weights_;
};

/// A delta of given singular values.
struct Made {
  Made(Index rows, Index cols, const Eigen::VectorXd& values)
      : s(values), u(orthonormal(rows, s.size(), "left")), v(orthonormal(cols, s.size(), "right")) {}
  Small truncated(Index k) const {
    return u.leftCols(k) * s.head(k).asDiagonal() * v.leftCols(k).transpose();
  }
  Small delta() const { return truncated(s.size()); }
  Eigen::VectorXd s;
  Small u;
  Small v;
};

/// 0.3 / (1 + i), but for ties: [first, first + count) are equal.
Made with_ties(Index rows, Index cols, Index first, Index count) {
  Eigen::VectorXd s(std::min(rows, cols));
  for (Index i = 0; i < s.size(); ++i) s[i] = 0.3 / static_cast<double>(1 + i);
  s.segment(first, count).setConstant(s[first]);
  return {rows, cols, s};
}

/// Delta_k by another choice among [first, first + count).
Small rotated(const Made& made, Index first, Index count, Index k, std::string_view name) {
  const Small q = orthonormal(count, k - first, name);
  return made.truncated(first) + made.s[first] * (made.u.middleCols(first, count) * q) *
                                     (made.v.middleCols(first, count) * q).transpose();
}

void expect_right(const Judgement& judgement, Kind kind) {
  EXPECT_EQ(judgement.fault, "");
  EXPECT_EQ(judgement.kind, kind);
  EXPECT_FALSE(judgement.undecided);
  EXPECT_FALSE(judgement.loose);
}

TEST(ReferenceEdit, AUniqueEditIsRightInEveryType) {
  const Made made = with_ties(90, 70, 0, 1);
  for (const DType dtype : {DType::BF16, DType::F16, DType::F32, DType::F64}) {
    const Pair pair(made.delta(), dtype);
    for (const Index k : {1, 6, 40}) {
      expect_right(pair.judge(1.25 * made.truncated(k), k), Kind::unique);
      EXPECT_NE(pair.judge(1.26 * made.truncated(k), k).fault, "");
      EXPECT_NE(pair.judge(1.25 * made.truncated(k + 1), k).fault, "");
      EXPECT_NE(pair.judge(0 * made.truncated(k), k).fault, "");
    }
  }
}

TEST(ReferenceEdit, OneWrongEntryIsFound) {
  const Made made = with_ties(60, 80, 0, 1);
  Small edit = 1.25 * made.truncated(6);
  edit(17, 33) += 3e-4;
  const Judgement judgement = Pair(made.delta()).judge(edit, 6);
  EXPECT_NE(judgement.fault.find("entry [17, 33]"), std::string::npos) << judgement.fault;
  EXPECT_NE(judgement.fault.find("1 of 4800"), std::string::npos) << judgement.fault;
}

TEST(ReferenceEdit, NanAndInfAreWrong) {
  for (const Index ties : {1, 5}) {
    const Made made = with_ties(60, 80, 4, ties);
    for (const double value :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      Small edit = 1.25 * made.truncated(6);
      edit(3, 4) = value;
      EXPECT_NE(Pair(made.delta()).judge(edit, 6).fault, "");
      EXPECT_NE(Pair(made.delta()).judge(edit, 0).fault, "");
    }
  }
}

TEST(ReferenceEdit, AnyChoiceAmongTiesIsRight) {
  for (const DType dtype : {DType::BF16, DType::F32}) {
    for (const auto& [first, count] : {std::pair<Index, Index>{4, 5}, {5, 2}, {0, 30}}) {
      const Made made = with_ties(120, 100, first, count);
      const Pair pair(made.delta(), dtype);
      for (const char* name : {"one", "two", "three"}) {
        const Judgement judgement = pair.judge(1.25 * rotated(made, first, count, 6, name), 6);
        expect_right(judgement, Kind::tied);
        EXPECT_EQ(judgement.tied, count);
        EXPECT_EQ(judgement.chosen, 6 - first);
      }
    }
  }
}

TEST(ReferenceEdit, AmongTiesTheRestIsHeldToo) {
  const Index first = 4;
  const Index count = 5;
  const Made made = with_ties(120, 100, first, count);
  const Pair pair(made.delta());
  const Small right = rotated(made, first, count, 6, "one");
  const Small u = made.u.middleCols(first, count);
  const Small v = made.v.middleCols(first, count);
  const auto refused = [&](const Small& edit) { return !pair.judge(edit, 6).fault.empty(); };
  EXPECT_FALSE(refused(1.25 * right));
  EXPECT_TRUE(refused(1.27 * right));
  EXPECT_TRUE(refused(0 * right));
  EXPECT_TRUE(refused(1.25 * made.truncated(5)));                                          // one too few
  EXPECT_TRUE(refused(1.25 * made.truncated(7)));                                          // one too many
  EXPECT_TRUE(refused(1.25 * (right - made.truncated(1))));                                // the certain part
  EXPECT_TRUE(refused(1.25 * (made.truncated(4) + 0.4 * made.s[4] * u * v.transpose())));  // spread over all
  const Small turned = orthonormal(count, 2, "one");
  EXPECT_TRUE(refused(1.25 * (made.truncated(4) + made.s[4] * (u * turned) *  // left and right
                                                      (v * orthonormal(count, 2, "two")).transpose())));
  EXPECT_TRUE(refused(1.25 * right + 1e-3 * normal(120, 100, "noise")));
  Small entry = 1.25 * right;
  entry(100, 90) += 5e-4;
  EXPECT_TRUE(refused(entry));
}

TEST(ReferenceEdit, WhereDeltaIsZeroNothingMayChange) {
  Made made = with_ties(24, 80, 0, 12);
  Small delta = Small::Zero(120, 80);
  delta.topRows(24) = made.delta();
  Small edit = Small::Zero(120, 80);
  edit.topRows(24) = 1.25 * rotated(made, 0, 12, 6, "one");
  const Pair pair(delta);
  expect_right(pair.judge(edit, 6), Kind::tied);
  edit.bottomRows(96) = 0.02 * normal(96, 80, "junk");
  EXPECT_NE(pair.judge(edit, 6).fault, "");
}

TEST(ReferenceEdit, APermutationIsOneGreatTie) {
  Small delta = Small::Zero(200, 200);
  for (Index i = 0; i < 200; ++i) delta(i, (7 * i + 3) % 200) = 0.01;
  const Pair pair(delta);
  const Small q = orthonormal(200, 60, "choice");
  const Small edit = 1.25 * q * (q.transpose() * delta);
  expect_right(pair.judge(edit, 60), Kind::tied);
  const Small few = 1.25 * q.leftCols(10) * (q.leftCols(10).transpose() * delta);
  EXPECT_NE(pair.judge(few, 60).fault, "");
  EXPECT_NE(pair.judge(0.5 * edit, 60).fault, "");
  EXPECT_NE(pair.judge(0.3 * 1.25 * delta, 60).fault, "");
  Small chosen = Small::Zero(200, 200);  // whole rows
  chosen.topRows(60) = 1.25 * delta.topRows(60);
  EXPECT_EQ(pair.judge(chosen, 60).fault, "");
}

TEST(ReferenceEdit, SingleUnitsAtFullRank) {
  const Pair plain(Small::Zero(50, 40));
  Small delta = Small::Zero(50, 40);
  for (Index i = 0; i < delta.size(); i += 2)
    delta.data()[i] = ulp(DType::BF16, plain.weights()(i % 50, i / 50));
  const Pair pair(delta);
  expect_right(pair.judge(1.25 * delta, 0), Kind::whole);
  expect_right(pair.judge(1.25 * delta, 40), Kind::whole);
  const double rounded = static_cast<float>(0.3);  // what float32 makes of it
  expect_right(pair.judge(rounded * delta, 0, 0.3), Kind::whole);
  EXPECT_NE(pair.judge(0 * delta, 0).fault, "");
  EXPECT_NE(pair.judge(2 * delta, 0).fault, "");
}

TEST(ReferenceEdit, ACoefficientThatIsNoFloat) {
  // float32 products of multiples of five with 0.3 differ from those in double, which are floats.
  Small delta(40, 50);
  for (Index i = 0; i < delta.size(); ++i) delta.data()[i] = 5 * static_cast<double>(i % 7 - 3) * 0x1p-14;
  const double rounded = static_cast<float>(0.3);
  for (const DType dtype : {DType::BF16, DType::F32, DType::F64}) {
    expect_right(Pair(delta, dtype).judge(rounded * delta, 0, 0.3), Kind::whole);
    EXPECT_NE(Pair(delta, dtype).judge(0.301 * delta, 0, 0.3).fault, "");
  }
}

TEST(ReferenceEdit, WithoutADeltaEveryEntryStays) {
  const Pair pair(Small::Zero(20, 30));
  Small edit = Small::Zero(20, 30);
  expect_right(pair.judge(edit, 6), Kind::none);
  edit(5, 6) = ulp(DType::BF16, pair.weights()(5, 6));
  EXPECT_NE(pair.judge(edit, 6).fault, "");
}

TEST(ReferenceEdit, RankBelowK) {
  Made made = with_ties(70, 60, 0, 1);
  made.s.tail(57).setZero();
  for (const DType dtype : {DType::BF16, DType::F32}) {
    const Pair pair(made.delta(), dtype);
    expect_right(pair.judge(1.25 * made.delta(), 6), Kind::unique);
    EXPECT_NE(pair.judge(1.25 * made.truncated(2), 6).fault, "");
  }
}

TEST(ReferenceEdit, BesideAnOutlierTheOthersCount) {
  const Made made = with_ties(64, 48, 0, 1);
  Small delta = 1e-3 * made.delta();
  delta(10, 20) = 3e3;
  const Eigen::JacobiSVD<Small> svd(delta.cast<float>().cast<double>(),
                                    Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto edit = [&](Index k) -> Small {
    return 1.25 * svd.matrixU().leftCols(k) * svd.singularValues().head(k).asDiagonal() *
           svd.matrixV().leftCols(k).transpose();
  };
  EXPECT_GT(svd.singularValues()[0], 5e6 * svd.singularValues()[1]);
  for (const DType dtype : {DType::BF16, DType::F32}) {
    const Pair pair(delta, dtype, 1e-3);
    expect_right(pair.judge(edit(6), 6), Kind::unique);
    EXPECT_NE(pair.judge(edit(1), 6).fault, "");
    // bf16 hides the sixth behind its rounding and the noise that float32 has beside the outlier.
    if (dtype == DType::F32) {
      EXPECT_NE(pair.judge(edit(5), 6).fault, "");
    }
  }
}

TEST(ReferenceEdit, SubnormalWeights) {
  const Made made = with_ties(64, 48, 0, 1);
  const Pair pair(2e-39 * made.delta(), DType::F32, 1e-39);
  expect_right(pair.judge(2.5e-39 * made.truncated(6), 6), Kind::unique);
  EXPECT_NE(pair.judge(0 * made.truncated(6), 6).fault, "");
  EXPECT_NE(pair.judge(2.5e-39 * made.truncated(5), 6).fault, "");
}

TEST(ReferenceSvd, IsThatOfJacobi) {
  for (const double least : {1e-2, 1e-9}) {  // by either method
    for (const auto& [rows, cols] : {std::pair<Index, Index>{70, 50}, {50, 70}}) {
      Eigen::VectorXd s(50);
      for (Index i = 0; i < s.size(); ++i) s[i] = i == 0 ? 1 : least / static_cast<double>(i);
      const RowMajorMatrix delta = Made(rows, cols, s).delta().cast<float>();
      const ReferenceSvd found = reference_svd(RowMajorView(delta.data(), rows, cols), 6,
                                               [](const Eigen::VectorXd&) { return Index{6}; });
      const Eigen::JacobiSVD<Small> svd(delta.cast<double>(), Eigen::ComputeThinU | Eigen::ComputeThinV);
      ASSERT_EQ(found.u.cols(), 6);
      for (Index i = 0; i < 6; ++i) {
        const double value = svd.singularValues()[i];
        EXPECT_NEAR(found.sigma[i], value, 1e-6 * value);
        EXPECT_NEAR(std::abs(found.u.col(i).dot(svd.matrixU().col(i))), 1, 1e-5);
        EXPECT_NEAR(std::abs(found.v.col(i).dot(svd.matrixV().col(i))), 1, 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace lox
