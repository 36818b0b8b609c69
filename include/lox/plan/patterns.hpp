// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/job.hpp"
#include "lox/plan/pairing.hpp"

#include <memory>
#include <string>
#include <vector>

namespace re2 {
class RE2;
}

namespace lox {

/// The compiled patterns of a selection. Matching takes time linear in the name's length and no stack (RE2),
/// whatever name and pattern are.
class Patterns {
 public:
  /// Throws Error(usage) naming option and pattern if one is no regular expression, or one that RE2 does not
  /// have.
  explicit Patterns(const Selection& selection);
  Patterns(Patterns&& other) noexcept;
  Patterns& operator=(Patterns&& other) noexcept;
  ~Patterns();

  /// Whether the tensor of this name is to be edited.
  bool takes(const std::string& name) const;
  /// Throws Error(bad_input) if one of them matches no tensor of any model: a typing error would go unseen.
  void refuse_idle(const std::vector<NamedModel>& models) const;

 private:
  std::vector<std::unique_ptr<re2::RE2>> include_;
  std::vector<std::unique_ptr<re2::RE2>> exclude_;
};

}  // namespace lox
