// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/journal.hpp"
#include "lox/run/plane.hpp"
#include "lox/run/steps.hpp"
#include "lox/run/target.hpp"

#include <utility>
#include <vector>

namespace lox {

/// What the two readings of a landscape share: rows of all models.
class LandscapeSteps : public LocalSteps {
 public:
  /// All of them outlive it. `expected`: what the aligned matrices must hold that have factors.
  LandscapeSteps(const PlaneReader& reader, const ExpectedContents& expected, std::size_t targets,
                 Journal& journal)
      : reader_(reader), expected_(expected), targets_(targets), journal_(journal) {}

  std::uint64_t memory(const Item& item) const override;
  void read(Parcel& parcel) override;
  bool solve(Parcel& parcel) override;

 protected:
  /// Works on rows that were read.
  virtual void work(Parcel& parcel, const PlaneRows& rows) = 0;
  /// Calls use(first row of those read, block) for all of them.
  template <class Use>
  void each_block(const Item& item, const PlaneRows& rows, Use use) const;

  const PlaneReader& reader_;
  const ExpectedContents& expected_;
  std::size_t targets_;
  Journal& journal_;
};

/// The first reading: scalar products, which the journal keeps.
class PlaneSteps final : public LandscapeSteps {
 public:
  PlaneSteps(const PlaneReader& reader, const ExpectedContents& expected, Journal& journal)
      : LandscapeSteps(reader, expected, 0, journal) {}
  void write(Parcel&) override {}
  void commit(std::vector<Record>& records) override;

 protected:
  void work(Parcel& parcel, const PlaneRows& rows) override;
};

/// The second one: the aligned model and shares of D and G, a pair for each target.
class PointSteps final : public LandscapeSteps {
 public:
  PointSteps(const PlaneReader& reader, const ExpectedContents& expected, std::vector<Target*> targets,
             std::vector<std::pair<double, double>> shares, Journal& journal)
      : LandscapeSteps(reader, expected, targets.size(), journal),
        points_(std::move(targets)),
        shares_(std::move(shares)) {}
  void write(Parcel& parcel) override;
  void commit(std::vector<Record>& records) override;

 protected:
  void work(Parcel& parcel, const PlaneRows& rows) override;

 private:
  std::vector<Target*> points_;
  std::vector<std::pair<double, double>> shares_;
};

}  // namespace lox
