// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/timer.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"
#include "lox/task/convert.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_convert(const Arguments& arguments) {
  Options options("convert", "SRC DST [--overwrite]",
                  "Writes a checkpoint in the format that DST's name asks for: *.h5 or *.hdf5 is\n"
                  "HDF5, *.safetensors one file, anything else a directory. Nothing is lost: there\n"
                  "and back gives byte-identical files, tokenizer and configuration included.",
                  "  lox convert Llama-2-7b-hf llama-2-7b.h5");
  bool overwrite = false;
  bool quiet = false;
  options.add({.name = "overwrite", .brief = "replace DST if it exists"}, overwrite);
  options.add({.name = "quiet", .brief = "say nothing unless it fails"}, quiet);
  options.add_positional("SRC");
  options.add_positional("DST");
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  const fs::path source = values["SRC"].as<std::string>();
  const fs::path target = values["DST"].as<std::string>();
  const auto work = [=](const Comm& comm) {
    const Log log(comm.is_root() && !quiet ? Log::Level::all : Log::Level::silent);
    const Timer start;
    const std::optional<std::uint64_t> copied = convert(comm, source, target, overwrite);
    if (!copied) {
      log.info("{} was finished already", target);
      return ExitCode::done;
    }
    const auto bytes = static_cast<double>(*copied);
    const double seconds = start.seconds();
    log.info("wrote {}: {} in {}, {}/s", target, format_bytes(bytes), format_seconds(seconds),
             format_bytes(bytes / std::max(seconds, 1e-3)));
    return ExitCode::done;
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
