// SPDX-License-Identifier: MIT
#include "lox/io/safetensors_header.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using Kind = JsonEvent::Kind;
constexpr std::uint64_t length_bytes = 8;

/// Collects a header's entries from the events of its JSON.
class HeaderReader {
 public:
  explicit HeaderReader(std::string file) : file_(std::move(file)) {}

  void visit(const JsonPath& path, const JsonEvent& event) {
    if (path.empty()) {
      if (event.kind != Kind::begin_object && event.kind != Kind::end_object) {
        fail(ExitCode::bad_input, "{}: the header is not a JSON object; this is no safetensors file", file_);
      }
    } else if (path[0] == "__metadata__") {
      visit_metadata(path, event);
    } else {
      visit_tensor(path, event);
    }
  }

  SafetensorsHeader finish(std::uint64_t header_bytes);

 private:
  struct Entry {
    TensorInfo info;
    std::vector<std::uint64_t> offsets;
    bool has_dtype = false;
    bool has_shape = false;
  };

  void visit_metadata(const JsonPath& path, const JsonEvent& event);
  void visit_tensor(const JsonPath& path, const JsonEvent& event);
  void visit_field(const std::string& field, const JsonEvent& event);
  void visit_element(const std::string& field, const JsonEvent& event);
  void close_entry();
  void set_dtype(const JsonEvent& event);
  std::string what() const { return to_line("{}: tensor {}", file_, entry_.info.name); }

  std::string file_;
  Entry entry_;
  SafetensorsHeader header_;  // extents still count from the end of the header
};

void HeaderReader::visit_metadata(const JsonPath& path, const JsonEvent& event) {
  if (path.size() == 1 && (event.kind == Kind::begin_object || event.kind == Kind::end_object)) return;
  if (path.size() != 2 || event.kind != Kind::text) {
    fail(ExitCode::bad_input, "{}: __metadata__ may only map texts to texts", file_);
  }
  if (path[1] == "DCP_SHARDING_INFO") header_.sharding = event.text;
}

void HeaderReader::visit_tensor(const JsonPath& path, const JsonEvent& event) {
  if (path.size() == 1) {
    if (event.kind == Kind::begin_object) {
      entry_ = Entry{};
      entry_.info.name = path[0];
      if (path[0].find('\0') != std::string::npos) fail(ExitCode::bad_input, "{}: a NUL in its name", what());
    } else if (event.kind == Kind::end_object) {
      close_entry();
    } else {
      fail(ExitCode::bad_input, "{}: tensor {}: its entry is not a JSON object", file_, path[0]);
    }
  } else if (path.size() == 2) {
    visit_field(path[1], event);
  } else if (path.size() == 3) {
    visit_element(path[1], event);
  }  // deeper: inside of a field that no one knows, left alone
}

void HeaderReader::visit_field(const std::string& field, const JsonEvent& event) {
  if (field == "dtype") {
    set_dtype(event);
  } else if (field == "shape" || field == "data_offsets") {
    if (event.kind != Kind::begin_array && event.kind != Kind::end_array) {
      fail(ExitCode::bad_input, "{}: {} is not an array", what(), field);
    }
    entry_.has_shape |= field == "shape";
  }
}

void HeaderReader::visit_element(const std::string& field, const JsonEvent& event) {
  if (field != "shape" && field != "data_offsets") return;
  if (event.kind != Kind::whole) {
    fail(ExitCode::bad_input, "{}: {} holds something else than whole numbers from 0 to 2^53", what(), field);
  }
  if (field == "shape") {
    entry_.info.shape.push_back(static_cast<std::int64_t>(event.number));
  } else {
    entry_.offsets.push_back(event.number);
  }
}

void HeaderReader::set_dtype(const JsonEvent& event) {
  if (event.kind != Kind::text) fail(ExitCode::bad_input, "{}: dtype is not a text", what());
  const auto dtype = dtype_from_name(event.text);
  if (!dtype) {
    fail(ExitCode::bad_input, "{}: unknown dtype {}", what(), std::string(event.text));
  }
  entry_.info.dtype = *dtype;
  entry_.has_dtype = true;
}

void HeaderReader::close_entry() {
  if (!entry_.has_dtype) fail(ExitCode::bad_input, "{}: has no dtype", what());
  if (!entry_.has_shape) fail(ExitCode::bad_input, "{}: has no shape", what());
  if (entry_.offsets.size() != 2)
    fail(ExitCode::bad_input, "{}: data_offsets does not hold two numbers", what());
  const std::uint64_t begin = entry_.offsets[0];
  const std::uint64_t end = entry_.offsets[1];
  if (end < begin)
    fail(ExitCode::bad_input, "{}: ends at byte {}, before it begins at {}", what(), end, begin);
  const std::uint64_t bytes = checked_bytes(entry_.info.dtype, entry_.info.shape, file_, entry_.info.name);
  if (end - begin != bytes) {
    fail(ExitCode::bad_input, "{}: dtype and shape need {} bytes, but data_offsets give {}", what(), bytes,
         end - begin);
  }
  entry_.info.extent = {0, begin, bytes};
  header_.tensors.push_back(std::move(entry_.info));
}

SafetensorsHeader HeaderReader::finish(std::uint64_t header_bytes) {
  auto& tensors = header_.tensors;
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.extent.offset, a.extent.bytes) < std::pair(b.extent.offset, b.extent.bytes);
  });
  std::uint64_t end = 0;
  for (TensorInfo& tensor : tensors) {
    if (tensor.extent.offset != end) {
      fail(ExitCode::bad_input,
           "{}: tensor {}: begins at byte {} of the data, but the tensor before ends at {}: {}", file_,
           tensor.name, tensor.extent.offset, end,
           tensor.extent.offset < end ? "they overlap" : "there is a hole");
    }
    end += tensor.extent.bytes;
    tensor.extent.offset += length_bytes + header_bytes;
  }
  header_.file_size = length_bytes + header_bytes + end;
  return std::move(header_);
}

nlohmann::ordered_json header_entry(const TensorInfo& tensor, std::uint64_t begin) {
  nlohmann::ordered_json entry;
  entry["dtype"] = std::string(dtype_name(tensor.dtype));
  entry["shape"] = tensor.shape;
  entry["data_offsets"] = {begin, begin + checked_bytes(tensor.dtype, tensor.shape, "", tensor.name)};
  return entry;
}

}  // namespace

std::string shape_text(const std::vector<std::int64_t>& shape) {
  constexpr std::size_t shown = 8;
  const auto some = std::span(shape).first(std::min(shape.size(), shown));
  return fmt::format("[{}{}]", fmt::join(some, ", "), shape.size() > shown ? ", ..." : "");
}

std::uint64_t checked_bytes(DType dtype, const std::vector<std::int64_t>& shape, const std::string& file,
                            const std::string& tensor) {
  const auto what = [&] {
    return file.empty() ? to_line("{}", tensor) : to_line("{}: tensor {}", file, tensor);
  };
  // A zero does not excuse the others: no later product of some of the dimensions may overflow either.
  std::int64_t bits = dtype_bits(dtype);
  bool empty = false;
  for (const std::int64_t size : shape) {
    empty |= size == 0;
    if (size < 0 || __builtin_mul_overflow(bits, std::max<std::int64_t>(size, 1), &bits)) {
      fail(ExitCode::bad_input, "{}: its shape {} is too large to be true", what(), shape_text(shape));
    }
  }
  if (empty) return 0;
  if (bits % 8 != 0) {
    fail(ExitCode::bad_input, "{}: {} elements of {} are no whole number of bytes", what(),
         bits / dtype_bits(dtype), dtype_name(dtype));
  }
  return static_cast<std::uint64_t>(bits / 8);
}

SafetensorsHeader parse_safetensors_header(std::string_view header, const std::string& file) {
  HeaderReader reader(file);
  try {
    visit_json(header, [&](const JsonPath& path, const JsonEvent& event) { reader.visit(path, event); });
  } catch (const JsonError& error) {
    fail(ExitCode::bad_input, "{}: header: {}", file, error.what());
  }
  return reader.finish(header.size());
}

std::string read_safetensors_header(const File& file) {
  const std::string name = file.path().string();
  const std::uint64_t size = file.size();
  if (size < length_bytes) {
    fail(ExitCode::bad_input, "{}: {} bytes are too few for a safetensors file; was its download cut short?",
         name, size);
  }
  std::array<std::byte, length_bytes> raw;
  file.read(0, raw);
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < raw.size(); ++i) length |= std::to_integer<std::uint64_t>(raw[i]) << (8 * i);
  if (length > longest_header) {
    fail(ExitCode::bad_input,
         "{}: its header claims {} bytes, more than the {} allowed; this is no safetensors file", name,
         length, longest_header);
  }
  if (length > size - length_bytes) {
    fail(ExitCode::bad_input,
         "{}: its header claims {} bytes, but the file has only {}; was its download cut short?", name,
         length, size);
  }
  std::string header(length, '\0');
  file.read(length_bytes, std::as_writable_bytes(std::span(header)));
  return header;
}

std::string frame_safetensors_header(const std::string& header) {
  std::string framed;
  framed.reserve(length_bytes + header.size());
  for (std::size_t i = 0; i < length_bytes; ++i) {
    framed.push_back(static_cast<char>((std::uint64_t{header.size()} >> (8 * i)) & 0xFF));
  }
  return framed += header;
}

std::string make_safetensors_header(const std::vector<TensorInfo>& tensors) {
  // Written entry by entry: an ordered JSON object of many keys takes time quadratic in their number.
  std::string header =
      R"({"__metadata__":{"format":"pt"})";  // without a format transformers refuses the file
  std::uint64_t begin = 0;
  for (const TensorInfo& tensor : tensors) {
    const nlohmann::ordered_json entry = header_entry(tensor, begin);
    begin = entry["data_offsets"][1];
    header += "," + nlohmann::json(tensor.name).dump() + ":" + entry.dump();
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > longest_header) {
    fail(ExitCode::bad_input,
         "{} tensors need a header of {} bytes, more than the {} that safetensors allows", tensors.size(),
         header.size(), longest_header);
  }
  return header;
}

}  // namespace lox
