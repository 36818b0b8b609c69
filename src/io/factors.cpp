// SPDX-License-Identifier: MIT
#include "lox/io/factors.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"
#include "lox/io/safetensors_header.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace lox {
namespace {

using nlohmann::json;

constexpr int factors_version = 1;
constexpr std::uint64_t longest_text = std::uint64_t{1} << 30;
constexpr std::array<const char*, factor_parts> endings{".u",     ".s",     ".v",    ".u_low",
                                                        ".s_low", ".v_low", ".delta"};

TensorInfo part(const TensorInfo& tensor, FactorPart which, std::vector<std::int64_t> last) {
  TensorInfo info{factor_name(tensor.name, which), factor_dtype(which), tensor.shape, {}, ""};
  info.shape.resize(tensor.shape.size() - 2);
  info.shape.insert(info.shape.end(), last.begin(), last.end());
  info.extent.bytes = checked_bytes(info.dtype, info.shape, "", info.name);
  return info;
}

/// Three digits: residuals are read, not calculated with.
double rounded(double residual) {
  return std::isfinite(residual) ? std::stod(fmt::format("{:.2e}", residual)) : 1e300;
}

std::string text_of(const Content& content) {
  return fmt::format("{:016x}{:016x}", content.sums[0], content.sums[1]);
}

json entry_to_json(const FactorEntry& e) {
  json open = json::array();
  for (const OpenRank& rank : e.open)
    open.push_back({{"k", rank.k}, {"gap", rounded(rank.gap)}, {"why", rank.why}});
  json residuals = json::array();
  for (const double residual : e.residuals) residuals.push_back(rounded(residual));
  json entry{{"tensor", e.tensor},
             {"matrix", e.matrix},
             {"aligned", text_of(e.aligned)},
             {"delta_norm", e.delta_norm},
             {"method", e.method},
             {"certificate", rounded(e.certificate)},
             {"orthogonality", rounded(e.orthogonality)},
             {"missed", {{"epsilon", rounded(e.missed_epsilon)}, {"probability", e.missed_probability}}},
             {"settled", e.settled},
             {"residuals", std::move(residuals)},
             {"open", std::move(open)}};
  if (e.base) entry["base"] = text_of(*e.base);
  return entry;
}

Content content_from_text(const std::string& text) {
  Content content;
  if (text.size() != 32 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    fail(ExitCode::bad_input, "'{}' is no fingerprint of a matrix", text);
  }
  content.sums = {std::stoull(text.substr(0, 16), nullptr, 16), std::stoull(text.substr(16), nullptr, 16)};
  return content;
}

FactorEntry entry_from_json(const json& from) {
  FactorEntry e;
  e.tensor = from.at("tensor").get<std::string>();
  e.matrix = from.at("matrix").get<std::int64_t>();
  e.aligned = content_from_text(from.at("aligned").get<std::string>());
  if (from.contains("base")) e.base = content_from_text(from.at("base").get<std::string>());
  e.delta_norm = from.at("delta_norm").get<double>();
  e.method = from.at("method").get<std::string>();
  e.certificate = from.at("certificate").get<double>();
  e.orthogonality = from.at("orthogonality").get<double>();
  e.missed_epsilon = from.at("missed").at("epsilon").get<double>();
  e.missed_probability = from.at("missed").at("probability").get<double>();
  e.settled = from.at("settled").get<bool>();
  e.residuals = from.at("residuals").get<std::vector<double>>();
  for (const json& rank : from.at("open")) {
    e.open.push_back(
        {rank.at("k").get<std::int64_t>(), rank.at("gap").get<double>(), rank.at("why").get<std::string>()});
  }
  return e;
}

json info_to_json(const FactorsInfo& info) {
  json matrices = json::array();
  for (const FactorEntry& entry : info.matrices) matrices.push_back(entry_to_json(entry));
  return {{"lox_factors", factors_version},
          {"lox", info.lox},
          {"k", info.k},
          {"job", info.job},
          {"base", info.base},
          {"aligned", info.aligned},
          {"matrices", std::move(matrices)}};
}

FactorsInfo info_from_json(const json& from) {
  if (from.at("lox_factors").get<int>() != factors_version) {
    fail(ExitCode::bad_input, "is of another version of lox");
  }
  FactorsInfo info;
  info.lox = from.at("lox").get<std::string>();
  constexpr std::uint64_t largest_k = std::uint64_t{1} << 31;
  if (!from.at("k").is_number_unsigned() || from.at("k") == 0U || from.at("k") > largest_k) {
    fail(ExitCode::bad_input, "has a k of {}", from.at("k").dump());
  }
  info.k = from.at("k").get<std::int64_t>();
  info.job = from.at("job");
  (void)info.job.at("seed").get<std::uint64_t>();
  (void)info.job.at("tolerance").get<double>();
  info.base = from.at("base");
  info.aligned = from.at("aligned");
  (void)info.aligned.at("path").get<std::string>();
  for (const json& entry : from.at("matrices")) info.matrices.push_back(entry_from_json(entry));
  return info;
}

/// The text as the value of a JSON text, without its quotes.
std::string escaped(const std::string& text) {
  const std::string quoted = json(text).dump();
  return quoted.substr(1, quoted.size() - 2);
}

/// What stands before the text in the header of one *.safetensors file.
const std::string metadata_begin = R"({"__metadata__":{"format":"pt","factors.json":")";

/// A file lies in the place of its name, or in the header of the only shard.
const OtherFile* find_file(const Checkpoint& store) {
  const auto found = std::ranges::find(store.other_files, factors_file, &OtherFile::name);
  return found == store.other_files.end() ? nullptr : &*found;
}

std::string read_text_of(const Checkpoint& store) {
  if (const OtherFile* const file = find_file(store); file != nullptr) {
    if (file->extent.bytes > longest_text) fail(ExitCode::bad_input, "is too long");
    std::string text(file->extent.bytes, ' ');
    FileStorage storage(store, FileStorage::Access::read);
    storage.read(file->extent, 0, std::as_writable_bytes(std::span(text)));
    return text;
  }
  if (store.shards.size() == 1) {
    const json metadata = parse_json(store.shards.front().header).value("__metadata__", json::object());
    return metadata.value(factors_file, "");
  }
  return "";
}

}  // namespace

std::string factor_name(const std::string& tensor, FactorPart part) {
  return tensor + endings[static_cast<std::size_t>(part)];
}

DType factor_dtype(FactorPart part) {
  return part == FactorPart::s_low ? DType::F64 : DType::F32;
}

bool is_store(const Checkpoint& checkpoint) {
  return find_file(checkpoint) != nullptr ||
         (checkpoint.shards.size() == 1 && checkpoint.shards.front().header.starts_with(metadata_begin));
}

FactorTable::FactorTable(const Checkpoint& store) {
  for (std::size_t i = 0; i < store.tensors.size(); ++i) {
    by_name_.emplace(store.tensors[i].name, static_cast<int>(i));
  }
}

FactorIndices FactorTable::find(const std::string& tensor) const {
  FactorIndices indices{};
  for (std::size_t which = 0; which < factor_parts; ++which) {
    const auto found = by_name_.find(factor_name(tensor, static_cast<FactorPart>(which)));
    indices[which] = found == by_name_.end() ? -1 : found->second;
  }
  return indices;
}

std::vector<TensorInfo> factor_tensors(const std::vector<TensorInfo>& aligned, std::int64_t k) {
  std::vector<TensorInfo> tensors;
  for (const TensorInfo& tensor : aligned) {  // entries of 8 bytes first: all lie at multiples of their width
    if (dtype_bits(tensor.dtype) > 16) tensors.push_back(part(tensor, FactorPart::s_low, {k}));
  }
  for (const TensorInfo& tensor : aligned) {
    const std::int64_t m = tensor.shape[tensor.shape.size() - 2];
    const std::int64_t n = tensor.shape.back();
    tensors.push_back(part(tensor, FactorPart::u, {m, k}));
    tensors.push_back(part(tensor, FactorPart::s, {k}));
    tensors.push_back(part(tensor, FactorPart::v, {n, k}));
    if (dtype_bits(tensor.dtype) > 16) {
      tensors.push_back(part(tensor, FactorPart::u_low, {m, k}));
      tensors.push_back(part(tensor, FactorPart::v_low, {n, k}));
    }
    if (std::min(m, n) <= k) tensors.push_back(part(tensor, FactorPart::delta, {m, n}));
  }
  return tensors;
}

std::uint64_t longest_factors_text(const FactorsInfo& info) {
  constexpr std::uint64_t number = 26;                  // the longest double, a comma, and some
  const std::string fixed = info_to_json(info).dump();  // with the shortest numbers there are
  return fixed.size() + info.matrices.size() * (8 + 4 * static_cast<std::uint64_t>(info.k)) * number;
}

Checkpoint factors_to_make(std::vector<TensorInfo> tensors, Format format, std::uint64_t text_bytes) {
  Checkpoint store;
  store.format = format;
  store.tensors = std::move(tensors);
  if (format != Format::safetensors_file) {
    store.other_files.push_back({factors_file, {-1, 0, text_bytes}});
    return store;
  }
  const std::string header = make_safetensors_header(store.tensors);
  const std::string plain = R"({"__metadata__":{"format":"pt")";
  const std::string text(2 * text_bytes, ' ');  // room for the backslashes before its quotes
  std::string with_text = metadata_begin + text + '"' + header.substr(plain.size());
  with_text.resize((with_text.size() + 7) / 8 * 8, ' ');
  if (with_text.size() > longest_header) {
    fail(ExitCode::bad_input,
         "the store's {} may take {} bytes, too many for the header of one *.safetensors file; name a folder "
         "or *.h5 as --output",
         factors_file, text.size());
  }
  store.shards.push_back({"model.safetensors", std::move(with_text)});
  return store;
}

void write_factors_info(const Checkpoint& store, const FactorsInfo& info) {
  std::string text = info_to_json(info).dump();
  Extent place;
  if (const OtherFile* const file = find_file(store); file != nullptr) {
    place = file->extent;
  } else {
    const std::string& header = store.shards.front().header;
    std::size_t end = metadata_begin.size();  // a run that was killed may have left its text there
    while (end < header.size() && header[end] != '"') end += header[end] == '\\' ? 2 : 1;
    place = {0, 8 + metadata_begin.size(), end - metadata_begin.size()};
    text = escaped(text);
  }
  if (text.size() > place.bytes) {
    fail(ExitCode::internal, "{} needs {} bytes, and has {}", factors_file, text.size(), place.bytes);
  }
  text.resize(place.bytes, ' ');
  FileStorage storage(store, FileStorage::Access::write);
  storage.write(place, 0, std::as_bytes(std::span(text)));
  storage.sync_written();
}

FactorsInfo read_factors_info(const Checkpoint& store) {
  try {
    const std::string text = read_text_of(store);
    if (text.find_first_not_of(' ') == std::string::npos) {
      fail(ExitCode::bad_input,
           "is missing: this is no store that 'lox factor' has made, or it has lost that file");
    }
    std::string why;
    const json parsed = parse_json(text, &why);
    if (!why.empty()) fail(ExitCode::bad_input, "is not what 'lox factor' writes: {}", why);
    return info_from_json(parsed);
  } catch (const json::exception& error) {
    fail(ExitCode::bad_input, "{}: its {} is not what 'lox factor' writes: {}", store.path, factors_file,
         error.what());
  } catch (const Error& error) {
    fail(ExitCode::bad_input, "{}: its {} {}", store.path, factors_file, error.what());
  }
}

}  // namespace lox
