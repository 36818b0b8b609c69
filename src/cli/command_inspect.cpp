// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"
#include "lox/io/checkpoint.hpp"

#include <nlohmann/json.hpp>

namespace po = boost::program_options;

namespace lox {
namespace {

std::string shape_text(const TensorInfo& tensor) {
  std::string text;
  for (const std::int64_t extent : tensor.shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text.empty() ? "scalar" : text;
}

const char* format_text(Format format) {
  switch (format) {
    case Format::safetensors_file:
      return "safetensors file";
    case Format::safetensors_directory:
      return "safetensors directory";
    case Format::hdf5:
      return "HDF5";
  }
  return "?";
}

void print_json(const Checkpoint& model) {
  nlohmann::json tensors = nlohmann::json::array();
  std::int64_t parameters = 0;
  for (const TensorInfo& tensor : model.tensors) {
    parameters += tensor.elements();
    tensors.push_back({{"name", tensor.name},
                       {"dtype", dtype_name(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.extent.bytes}});
  }
  nlohmann::json files = nlohmann::json::array();
  for (const OtherFile& file : model.other_files)
    files.push_back({{"name", file.name}, {"bytes", file.extent.bytes}});
  const nlohmann::json all{{"path", model.path.string()}, {"format", format_text(model.format)},
                           {"bytes", model.bytes()},      {"parameters", parameters},
                           {"tensors", tensors},          {"files", files}};
  fmt::print("{}\n", all.dump(1));
}

void print_table(const Checkpoint& model) {
  std::size_t width = 4;
  std::int64_t parameters = 0;
  for (const TensorInfo& tensor : model.tensors) {
    width = std::max(width, printable(tensor.name).size());
    parameters += tensor.elements();
  }
  fmt::print("{:{}}  {:8}  {:>10}  shape\n", "name", width, "dtype", "bytes");
  for (const TensorInfo& tensor : model.tensors) {
    print("{:{}}  {:8}  {:>10}  {}\n", tensor.name, width, dtype_name(tensor.dtype),
          format_bytes(static_cast<double>(tensor.extent.bytes)), shape_text(tensor));
  }
  print("\n{}: {}, {}, {:.3g} parameters, {}", model.path, format_text(model.format),
        count_of(static_cast<std::int64_t>(model.tensors.size()), "tensor"), static_cast<double>(parameters),
        format_bytes(static_cast<double>(model.bytes())));
  if (!model.other_files.empty())
    fmt::print(", {}", count_of(static_cast<std::int64_t>(model.other_files.size()), "other file"));
  fmt::print("\n");
}

}  // namespace

ExitCode run_inspect(const Arguments& arguments) {
  Options options("inspect", "CKPT [--json]",
                  "Lists names, dtypes, sizes and shapes of the tensors of a checkpoint: a\n"
                  "directory of *.safetensors, one .safetensors file, or one .h5/.hdf5 file.\n"
                  "Only headers are read.",
                  "  lox inspect Llama-2-7b-hf");
  bool json = false;
  options.add({.name = "json", .brief = "for programs"}, json);
  options.add_positional("CKPT");
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  const Checkpoint model = open_checkpoint(values["CKPT"].as<std::string>());
  json ? print_json(model) : print_table(model);
  return ExitCode::done;
}

}  // namespace lox
