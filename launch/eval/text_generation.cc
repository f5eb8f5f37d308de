#include "launch/eval/text_generation.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "launch/data/rows/row_files.h"
#include "launch/job/python_step.h"

namespace sutor {
namespace {

constexpr const char* kScript = "prompts.py";

// Returns the counts of the script. When it fails it has printed why, and the job ends with its
// code.
nlohmann::json run_script(const nlohmann::json& job) {
  const PythonOutput output = read_python_step(kScript, job);
  if (output.exit_code != kExitOk) {
    fail(step_error(output.exit_code), "preparing the prompts failed, see the message above");
  }
  return printed_json(output, kScript);
}

constexpr int64_t kMaxPromptBytes = int64_t{8} << 30;

std::vector<nlohmann::json> parse_lines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(printed_json({kExitOk, std::move(line)}, kScript));
  }
  return lines;
}

// Removes its file when it goes out of scope.
struct ScratchFile {
  ~ScratchFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
  std::filesystem::path path;
};

}  // namespace

int64_t context_length(const ModelSource& source) {
  const auto& config = source.directory.config();
  const auto at = config.find("max_position_embeddings");
  return at != config.end() && at->is_number_integer() ? at->get<int64_t>() : 0;
}

TextResult generate_text(const Recipe& recipe, const Session& session, const TextPrompts& prompts,
                         const std::filesystem::path& out) {
  Comm& world = session.parallel().world();
  const bool root = world.rank() == 0;
  const ModelSource& source = session.source();
  const std::string files = source.directory.files_root().string();
  TextResult result;
  std::string encoded, ends = "[]";
  if (root) {
    require_plain_file(out);  // the script would replace anything
    make_directory(parent_of(out));
    const int64_t context = context_length(source);
    const int64_t most = context > 0 ? context - recipe.generate.max_new_tokens : 0;
    if (context > 0 && most < 1) {
      fail(ErrorCode::kBadValue,
           "generate.max_new_tokens: {} leaves no room for a prompt in the model's context of {}",
           recipe.generate.max_new_tokens, context);
    }
    const ScratchFile scratch{temporary_name(out)};
    const nlohmann::json counts = run_script({{"action", "encode"},
                                              {"model", files},
                                              {"tokenizer", recipe.data.tokenizer},
                                              {"template", recipe.data.chat_template},
                                              {"rows", prompts.rows.string()},
                                              {"files", row_file_names(prompts.rows)},
                                              {"format", prompts.format},
                                              {"columns", row_columns(prompts.columns)},
                                              {"max_prompt_tokens", most},
                                              {"too_long", "drop"},
                                              {"out", scratch.path.string()}});
    result.dropped = counts.at("dropped");
    ends = counts.at("end_tokens").dump();
    encoded = read_file(scratch.path, kMaxPromptBytes);
  }
  encoded = world.broadcast_text(encoded, 0, "prompts");
  ends = world.broadcast_text(ends, 0, "end tokens");
  const std::vector<nlohmann::json> lines = parse_lines(encoded);
  std::vector<std::vector<int64_t>> ids;
  for (const nlohmann::json& line : lines) ids.push_back(line.at("ids"));
  std::set<int64_t> stop = stop_ids(source);
  stop.merge(nlohmann::json::parse(ends).get<std::set<int64_t>>());
  result.generation = generate(session, ids, stop, recipe.generate);
  result.prompts = static_cast<int64_t>(ids.size());
  for (const Completion& completion : result.generation.completions) {
    result.stopped += completion.stopped;
  }
  if (root) {
    const ScratchFile scratch{temporary_name(out)};
    std::string text;
    for (size_t i = 0; i < lines.size(); ++i) {
      const nlohmann::json line = {{"ids", result.generation.completions[i].ids},
                                   {"example", lines[i].at("example")}};
      text += dump_json(line) + "\n";
    }
    write_file_atomic(scratch.path, text);
    run_script({{"action", "decode"},
                {"model", files},
                {"tokenizer", recipe.data.tokenizer},
                {"generated", scratch.path.string()},
                {"stop_ids", stop},
                {"out", out.string()}});
  }
  world.barrier("completions written");
  return result;
}

}  // namespace sutor
