// SPDX-License-Identifier: MIT
#include "lox/io/json.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <unordered_set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

constexpr std::size_t deepest = 16;
constexpr std::uint64_t largest = std::uint64_t{1} << 53;  // above, JSON readers disagree

/// The keys of one object. Most objects have three, and most texts have many such objects: no hashing for
/// those.
class Keys {
 public:
  /// False if it is there already.
  bool insert(const std::string& key) {
    if (many_.empty()) {
      if (std::find(few_.begin(), few_.end(), key) != few_.end()) return false;
      few_.push_back(key);
      if (few_.size() > 8) many_.insert(few_.begin(), few_.end());
      return true;
    }
    return many_.insert(key).second;
  }
  /// For another object. A large set goes as a whole: to clear its buckets again and again would take long.
  void clear() {
    few_.clear();
    if (!many_.empty()) many_ = {};
  }

 private:
  std::vector<std::string> few_;
  std::unordered_set<std::string> many_;
};

/// Receives nlohmann's events; knows where it is and which keys it has seen there.
class Walker {
 public:
  using Json = nlohmann::json;
  using Kind = JsonEvent::Kind;

  explicit Walker(const JsonVisitor& visit) : visit_(visit) {}

  bool null() { return report({}); }
  bool boolean(bool value) { return report({Kind::other, {}, 0, value}); }
  bool number_integer(Json::number_integer_t) { return report({}); }  // negative: the others come as unsigned
  bool number_float(Json::number_float_t, const std::string&) { return report({}); }
  bool number_unsigned(Json::number_unsigned_t value) {
    if (value > largest) return report({});
    return report({Kind::whole, {}, value, false});
  }
  bool string(std::string& value) { return report({Kind::text, value, 0, false}); }
  bool binary(Json::binary_t&) { return report({}); }

  bool start_object(std::size_t) { return enter(Kind::begin_object); }
  bool end_object() { return leave(Kind::end_object); }
  bool start_array(std::size_t) { return enter(Kind::begin_array); }
  bool end_array() { return leave(Kind::end_array); }
  bool key(std::string& name) {
    if (!keys_[path_.size() - 1].insert(name)) {
      throw JsonError(to_line("the key {} appears twice in one object", name));
    }
    path_.back() = name;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    throw JsonError(to_line("not valid JSON at byte {}: {}", position, error.what()));
  }

 private:
  bool report(const JsonEvent& event) {
    visit_(path_, event);
    return true;
  }
  bool enter(Kind kind) {
    if (path_.size() == deepest) throw JsonError(fmt::format("JSON nested more than {} deep", deepest));
    report({kind, {}, 0, false});
    if (keys_.size() == path_.size()) keys_.emplace_back();
    keys_[path_.size()].clear();
    path_.emplace_back();
    return true;
  }
  bool leave(Kind kind) {
    path_.pop_back();
    return report({kind, {}, 0, false});
  }

  const JsonVisitor& visit_;
  JsonPath path_;
  std::vector<Keys> keys_;  ///< by depth; deeper ones than the path's are left over
};

}  // namespace

void visit_json(std::string_view text, const JsonVisitor& visit) {
  // The parser takes a NUL for the end of the text and skips a byte order mark: neither is JSON.
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) throw JsonError(fmt::format("not valid JSON at byte {}: a NUL", nul));
  if (text.starts_with("\xEF\xBB\xBF")) throw JsonError("not valid JSON at byte 0: a byte order mark");
  Walker walker(visit);
  nlohmann::json::sax_parse(text.begin(), text.end(), &walker);
}

nlohmann::json parse_json(std::string_view text, std::string* why) {
  static constexpr int deepest_value = 64;
  const auto keep = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > deepest_value) throw JsonError(fmt::format("JSON nested more than {} deep", deepest_value));
    return true;
  };
  try {
    return nlohmann::json::parse(text, keep);
  } catch (const JsonError& error) {
    if (why != nullptr) *why = error.what();
  } catch (const nlohmann::json::exception& error) {
    if (why != nullptr) *why = printable(error.what());
  }
  return {};
}

bool is_utf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

}  // namespace lox
