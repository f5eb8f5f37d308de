// sutor prepare: rows -> token stores.
#include "launch/verbs/prepare.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "checkpoint/open_model.h"
#include "csrc/base/error.h"
#include "launch/command_line.h"
#include "launch/failure.h"
#include "launch/metrics_log.h"
#include "launch/provenance.h"
#include "launch/recipe_arguments.h"
#include "launch/run_paths.h"
#include "recipes/recipe_reader.h"

extern char** environ;

namespace sutor {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;

constexpr VerbHelp kHelp{
    "prepare", "Tokenizes the recipe's rows into token stores, with what is in the loss marked.",
    "sutor prepare RECIPE [--show N] [--set key=value]...",
    "sutor prepare my.yaml --show 2\n"
    "sutor prepare my.yaml --set data.template=chatml.jinja --set data.loss_on=last"};

// The source tree: where the program was built lies in it, wherever it has been moved since.
fs::path source_tree() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path built_in = SUTOR_SOURCE_DIR;
  for (const fs::path& tree : {program.parent_path().parent_path(), built_in}) {
    if (fs::exists(tree / "tools" / "prepare.py", ignored)) return tree;
  }
  fail(232, "tools/prepare.py was found neither beside {} nor under {}", program.string(),
       built_in.string());
}

std::string find_python(const fs::path& tree) {
  if (const char* chosen = std::getenv("SUTOR_PYTHON"); chosen && *chosen) {
    if (::access(chosen, X_OK) == 0) return chosen;
    fail(232, "SUTOR_PYTHON is {}, which is no program that can be run", chosen);
  }
  const std::string python = (tree / ".venv" / "bin" / "python").string();
  if (::access(python.c_str(), X_OK) == 0) return python;
  fail(232,
       "{} does not exist; prepare needs a Python with tokenizers, jinja2, h5py and numpy. Run "
       "`bash "
       "tools/setup.sh`, or set SUTOR_PYTHON to one",
       python);
}

nlohmann::json job_of(const Recipe& recipe, int show) {
  const RunPaths paths(recipe.output);
  nlohmann::json sources = nlohmann::json::array();
  const auto add = [&](const char* kind, const std::vector<DataSource>& list) {
    for (const DataSource& source : list) {
      sources.push_back({{"kind", kind},
                         {"path", source.path},
                         {"format", source.format},
                         {"name", source.name},
                         {"out", paths.tokens(source.name).string()}});
    }
  };
  add("train", recipe.data.train);
  add("eval", recipe.data.eval);
  return {{"model", model_files_root(recipe.model.path).string()},
          {"tokenizer", model_files_root(recipe.data.tokenizer).string()},
          {"template", recipe.data.chat_template},
          {"loss_on", recipe.data.loss_on},
          {"seq_len", recipe.data.seq_len},
          {"too_long", recipe.data.too_long},
          {"show", show},
          {"colour", use_colour(STDOUT_FILENO)},
          {"producer", version_text()},
          {"sources", sources}};
}

// Runs a program to its end. Returns its exit code, 128 + n for a signal n.
int run_program(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  std::fflush(nullptr);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], nullptr, nullptr, arguments.data(), environ);
  if (error != 0) fail(232, "{} cannot be started: {}", command[0], std::strerror(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail(232, "{}: its end was not seen: {}", command[0], std::strerror(errno));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int prepare_tokens(const Recipe& recipe, int show) {
  if (recipe.data.train.empty() && recipe.data.eval.empty()) require_train_data(recipe);
  const fs::path tree = source_tree();
  // -B: no byte code is left in a source tree that may be read-only or shared.
  return run_program({find_python(tree), "-B", (tree / "tools" / "prepare.py").string(),
                      job_of(recipe, show).dump()});
}

int verb_prepare(const Arguments& arguments) {
  return run_alone([&]() -> int {
    po::options_description options;
    po::positional_options_description positional;
    add_recipe_options(options, positional);
    options.add_options()("show", po::value<int>()->default_value(0),
                          "print the first N documents of every set, trained tokens marked");
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    return prepare_tokens(recipe_from(*values), (*values)["show"].as<int>());
  });
}

}  // namespace sutor
