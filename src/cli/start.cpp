// SPDX-License-Identifier: MIT
#include "lox/cli/start.hpp"

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* failed = "failure";

/// CBOR, since a path may be no UTF-8.
std::string packed(const json& value) {
  std::string text;
  json::to_cbor(value, text);
  return text;
}

std::string shown_value(const json& value) {
  if (value == json("")) return "not given";
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

/// The first thing that this rank was asked otherwise than rank 0, as an error; nothing if there is none.
std::optional<Error> difference(const json& mine, const json& of_root, int rank) {
  for (const auto& [name, value] : mine.items()) {
    const json other = of_root.value(name, json(""));
    if (value == other) continue;
    return Error(ExitCode::usage,
                 to_line("{} is {} on rank {}, but {} on rank 0; start all ranks with the same command, "
                         "options and job file",
                         name, shown_value(value), rank, shown_value(other)));
  }
  return std::nullopt;
}

}  // namespace

void agree_on_start(const Comm& comm, const json& asked, const std::optional<Error>& failure) {
  const std::string mine =
      packed(failure ? json{{failed, {static_cast<int>(failure->code()), failure->what()}}} : asked);
  const std::string of_root = comm.broadcast(mine);
  const bool as_root = mine == of_root;
  const bool all_alike = comm.sum(std::int64_t{as_root ? 0 : 1}) == 0;
  if (failure && all_alike) throw SharedError(failure->code(), failure->what());
  std::optional<Error> wrong;
  if (failure) {
    const std::string_view text = failure->what();
    wrong = Error(failure->code(), to_line("rank {}: {}", comm.rank(), text));
  } else if (const json theirs = json::from_cbor(of_root); !as_root && !theirs.contains(failed)) {
    wrong = difference(asked, theirs, comm.rank());
  }
  agree(comm, wrong);
}

}  // namespace lox
