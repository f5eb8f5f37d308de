// sutor convert: a Hugging Face directory into a base store, and back.
#include "launch/convert/convert.h"

#include <fmt/format.h>

#include "checkpoint/huggingface/hf_index.h"
#include "checkpoint/store/store_manifest.h"
#include "checkpoint/store/store_plan.h"
#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/job/job.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "convert",
    "Turns a Hugging Face directory into a base store (HDF5 tiles by tensor name, with digests), "
    "or "
    "a base store back into the directory, byte for byte. A start that was killed goes on.",
    "sutor convert --from DIR --to DIR [--verify] [--max-file-bytes SIZE] [--overwrite]",
    "mpiexec -n 4 sutor convert --from DeepSeek-V2-Lite/ --to base/ --verify\n"
    "sutor convert --from base/ --to DeepSeek-V2-Lite-again/"};

// The store is a function of the model and the program: nothing of this run goes into it.
nlohmann::json store_provenance() {
  nlohmann::json origin = provenance("convert", {});
  origin.erase("command");
  return origin;
}

ConvertRequest request_from(const po::variables_map& values) {
  ConvertRequest request{.from = values["from"].as<std::string>(),
                         .to = values["to"].as<std::string>(),
                         .max_file_bytes = parse_byte_size(
                             values["max-file-bytes"].as<std::string>(), "--max-file-bytes"),
                         .verify = values["verify"].as<bool>(),
                         .overwrite = values["overwrite"].as<bool>()};
  if (request.max_file_bytes < kLeastStoreFileBytes) {
    fail(ErrorCode::kBadArgument, "--max-file-bytes: at least {}KiB, found {}",
         kLeastStoreFileBytes >> 10, values["max-file-bytes"].as<std::string>());
  }
  if (!values["max-file-bytes"].defaulted() && is_base_store(request.from)) {
    fail(ErrorCode::kBadArgument, "--max-file-bytes is for making a store; {} is one already",
         request.from.string());
  }
  return request;
}

}  // namespace

int verb_convert(const Arguments& arguments) {
  po::options_description options;
  auto add = options.add_options();
  add("from", po::value<std::string>()->required(), "Hugging Face directory, or base store");
  add("to", po::value<std::string>()->required(), "what to make; it must not exist");
  add("verify", po::bool_switch(), "compare every byte with the source before it gets its name");
  add("max-file-bytes", po::value<std::string>()->default_value("4GiB"),
      "largest data file of a store, e.g. 512MiB");
  add("overwrite", po::bool_switch(), "replace the model that is there, once the new one is whole");
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, {}, arguments);
    if (!values) return kExitOk;
    convert_model(request_from(*values), world, store_provenance());
    return kExitOk;
  });
}

}  // namespace sutor
