// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/timer.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/task_options.hpp"
#include "lox/task/convert.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_convert(const Arguments& arguments) {
  Options options("convert", "SRC DST [--overwrite]",
                  "Writes a checkpoint in the format that DST's name asks for: *.h5 or *.hdf5 is\n"
                  "HDF5, *.safetensors one file, anything else a directory. There and back gives\n"
                  "byte-identical files, tokenizer and configuration included; only one\n"
                  "*.safetensors file has no place for those.",
                  "  lox convert Llama-2-7b-hf llama-2-7b.h5");
  ConvertArguments asked;
  asked.add_to(options);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  asked.finish(values);
  const auto work = [asked](const Comm& comm) {
    const Log log(comm.is_root() && !asked.quiet ? Log::Level::all : Log::Level::silent);
    const Timer start;
    const std::optional<std::uint64_t> copied =
        convert(comm, asked.source, asked.target, asked.overwrite, log);
    if (!copied) {
      log.info("{} was finished already", asked.target);
      return ExitCode::done;
    }
    const auto bytes = static_cast<double>(*copied);
    const double seconds = start.seconds();
    log.info("wrote {}: {} in {}, {}/s", asked.target, format_bytes(bytes), format_seconds(seconds),
             format_bytes(bytes / std::max(seconds, 1e-3)));
    return ExitCode::done;
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
