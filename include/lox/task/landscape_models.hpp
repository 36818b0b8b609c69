// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/factors.hpp"
#include "lox/io/storage.hpp"
#include "lox/plan/plan.hpp"
#include "lox/run/apply_steps.hpp"
#include "lox/run/plane.hpp"
#include "lox/task/factor_choice.hpp"
#include "lox/task/landscape.hpp"

#include <deque>
#include <utility>

namespace lox {

/// The models of a landscape, the store that makes its direction of hardening, and what they are in the
/// plane: all that is decided before anything is read. On every rank, but for what is said to be on rank 0.
struct LandscapeModels {
  Resources resources;
  std::vector<Checkpoint> models;  ///< the aligned one, then the others
  std::vector<std::string> names;  ///< of them
  PlaneModels plane;
  Checkpoint store;
  FactorsInfo info;  ///< on rank 0
  Index k = 0;
  ExpectedContents contents;

  std::vector<NamedModel> named() const;
  Plan plan(std::size_t targets) const;
  /// Bytes that an item reads.
  std::uint64_t bytes_read(const Item& item) const;
  /// Holds the aligned matrices against the store's fingerprints: those in stretches, whose sum is known now.
  /// Throws Error(bad_input) naming a tensor that differs.
  void check_contents(const std::vector<Record>& records) const;
};

/// Where the factors are, or will be.
fs::path store_path(const LandscapeJob& job);

/// The models beside the aligned one, by name, and what they are in the plane.
std::vector<std::pair<std::string, fs::path>> other_models(const LandscapeJob& job, PlaneModels& plane);

/// One of these models. Throws Error(bad_input) if it is FP8.
Checkpoint open_in_plane(const fs::path& path, const Log& log);

/// Reads the headers. Collective.
LandscapeModels open_landscape(const Comm& comm, const LandscapeJob& job, const Log& log);

/// The files of a run, and what reads them.
class LandscapeFiles {
 public:
  /// `opened` outlives it.
  explicit LandscapeFiles(const LandscapeModels& opened);
  const PlaneReader& reader() const { return reader_; }

 private:
  std::vector<OpenModel> open(const LandscapeModels& opened);
  std::deque<FileStorage> storages_;
  FileStorage store_;
  FactorReader factors_;
  PlaneReader reader_;
};

}  // namespace lox
