#include "launch/chat/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <vector>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "csrc/base/text/text.h"
#include "launch/chat/chat_console.h"
#include "launch/eval/generation.h"
#include "launch/eval/text_generation.h"
#include "launch/job/failure.h"
#include "launch/job/python_dialog.h"

namespace sutor {
namespace {

// Ranks that wait for a person hear so often that the job is alive (SUTOR_COMM_TIMEOUT ends waits).
constexpr double kBeat = 20;

constexpr const char* kCommands =
    "/reset forgets the conversation, /undo the last turn, /save FILE writes it as a row of "
    "training data, /quit ends; a line that begins with // says a /. Ctrl-C stops an answer.";

// What all ranks do next, as told by rank 0.
struct Order {
  bool quit = false;
  std::vector<int64_t> prompt;  // empty: nothing
  std::set<int64_t> stop;
  int64_t max_new_tokens = 0;
};

Order shared(Comm& world, const Order& order) {
  const std::string told = world.broadcast_text(
      nlohmann::json::array({order.quit, order.prompt, order.stop, order.max_new_tokens}).dump(), 0,
      "chat");
  const nlohmann::json json = nlohmann::json::parse(told);
  return {json[0].get<bool>(), json[1].get<std::vector<int64_t>>(),
          json[2].get<std::set<int64_t>>(), json[3].get<int64_t>()};
}

// Text of tokens that come one by one: what is complete of it. A character may need several tokens.
class Stream {
 public:
  Stream(PythonDialog& dialog, ChatConsole& console) : dialog_(dialog), console_(console) {}

  void show(const Completion& completion) {
    text_ = decoded(completion);
    std::string_view complete = text_;
    static constexpr std::string_view kUnfinished = "\xEF\xBF\xBD";  // U+FFFD
    while (complete.ends_with(kUnfinished)) complete.remove_suffix(kUnfinished.size());
    print(complete);
  }

  // All of it, at the end.
  std::string finish(const Completion& completion) {
    text_ = decoded(completion);
    print(text_);
    console_.say("\n");
    return text_;
  }

 private:
  std::string decoded(const Completion& completion) {
    std::vector<int64_t> ids = completion.ids;
    if (completion.stopped) ids.pop_back();
    return dialog_.ask({{"decode", ids}}).at("text");
  }

  void print(std::string_view text) {
    if (text.size() <= shown_.size() || !text.starts_with(shown_)) return;
    console_.say(std::string(text.substr(shown_.size())));
    shown_ = text;
  }

  PythonDialog& dialog_;
  ChatConsole& console_;
  std::string text_, shown_;
};

// Rank 0's half.
class Host {
 public:
  Host(const Recipe& recipe, const Session& session, const std::optional<std::string>& system)
      : recipe_(recipe),
        session_(session),
        dialog_("chat.py", {{"model", session.source().directory.files_root().string()},
                            {"tokenizer", recipe.data.tokenizer},
                            {"template", recipe.data.chat_template}}),
        template_(dialog_.read().at("template")) {
    if (system && !template_) {
      fail(
          ErrorCode::kBadArgument,
          "--system: {} has no chat template (data.template: {}), so that there is no place for it",
          recipe.model.path, recipe.data.chat_template);
    }
    if (system) system_ = {{"role", "system"}, {"content", *system}};
    reset();
    if (!template_) {
      console_.tell(fmt::format(
          "{} has no chat template (data.template: {}): each line is completed as it stands, "
          "without those before it",
          recipe.model.path, recipe.data.chat_template));
    }
    console_.tell(kCommands);
  }

  // Reads until there is something to do for all ranks.
  Order next() {
    std::string line;
    switch (console_.read_line(line, kBeat)) {
      case ChatConsole::Event::kNothing:
        return {};
      case ChatConsole::Event::kInterrupted:
        console_.tell("\n/quit or Ctrl-D ends the chat");
        return {};
      case ChatConsole::Event::kEnd:
        return {.quit = true};
      case ChatConsole::Event::kLine:
        break;
    }
    if (line.starts_with("//")) {
      line.erase(0, 1);
    } else if (line.starts_with('/')) {
      return command(line);
    }
    if (line.empty()) return {};
    if (const size_t bad = first_not_utf8(line); bad < line.size()) {
      console_.tell(fmt::format("that is not text in UTF-8 (byte {})", bad + 1));
      return {};
    }
    return turn(line);
  }

  void answer(const std::vector<int64_t>& prompt, const std::set<int64_t>& stop,
              const GenerateOptions& options) {
    Stream stream(dialog_, console_);
    bool interrupted = false;
    const GenerationWatch watch{
        .on_token = [&](const Completion& completion) { stream.show(completion); },
        .ends = [&] { return interrupted = interrupted || console_.take_interrupt(); }};
    const GenerationResult result =
        generate(session_, std::span(&prompt, 1), stop, options, &watch);
    const Completion& completion = result.completions.front();
    const std::string text = stream.finish(completion);
    messages_.push_back({{"role", "assistant"}, {"content", text}});
    if (interrupted) {
      console_.tell("(stopped; /undo takes the turn back)");
    } else if (!completion.stopped) {
      console_.tell(
          fmt::format("(cut at {} tokens: generate.max_new_tokens, or the end of the "
                      "model's context)",
                      completion.ids.size()));
    }
  }

 private:
  void reset() {
    messages_ = nlohmann::json::array();
    if (!system_.is_null()) messages_.push_back(system_);
  }

  Order command(const std::string& line) {
    const std::string name = line.substr(0, line.find(' '));
    if (name == "/quit" || name == "/exit") return {.quit = true};
    if (name == "/reset") {
      reset();
      console_.tell("(forgotten)");
    } else if (name == "/undo") {
      undo();
    } else if (name == "/save") {
      save(line.size() > name.size() ? line.substr(name.size() + 1) : "");
    } else {
      console_.tell((name == "/help" ? "" : name + " is no command. ") + std::string(kCommands));
    }
    return {};
  }

  void undo() {
    const size_t least = system_.is_null() ? 0 : 1;
    if (messages_.size() <= least) return console_.tell("(there is no turn to take back)");
    while (messages_.size() > least) {
      const bool user = messages_.back().at("role") == "user";
      messages_.erase(messages_.end() - 1);
      if (user) break;
    }
    console_.tell("(the last turn is taken back)");
  }

  void save(const std::string& path) {
    if (path.empty()) return console_.tell("/save needs the name of a file");
    const Failure failure = failure_of([&] {
      require_plain_file(path);
      write_file_atomic(path, dump_json(nlohmann::json{{"messages", messages_}}) + "\n");
      return 0;
    });
    console_.tell(failure.message.empty() ? "(saved to " + path + ")" : failure.message);
  }

  // A line of the person: the prompt that it makes.
  Order turn(const std::string& line) {
    if (!template_) reset();
    messages_.push_back({{"role", "user"}, {"content", line}});
    const nlohmann::json prompt = dialog_.ask(template_ ? nlohmann::json{{"messages", messages_}}
                                                        : nlohmann::json{{"prompt", line}});
    if (prompt.contains("error")) {
      messages_.erase(messages_.end() - 1);
      console_.tell(prompt["error"]);
      return {};
    }
    Order order{.prompt = prompt.at("ids").get<std::vector<int64_t>>(),
                .stop = stop_ids(session_.source()),
                .max_new_tokens = recipe_.generate.max_new_tokens};
    order.stop.merge(prompt.at("end_tokens").get<std::set<int64_t>>());
    const auto tokens = static_cast<int64_t>(order.prompt.size());
    const int64_t context = context_length(session_.source());
    if (tokens == 0 || (context > 0 && tokens >= context)) {
      messages_.erase(messages_.end() - 1);
      console_.tell(
          fmt::format("the conversation has {} tokens, the model's context {}: /undo "
                      "takes turns back, /reset all",
                      tokens, context));
      return {};
    }
    if (context > 0) order.max_new_tokens = std::min(order.max_new_tokens, context - tokens);
    return order;
  }

  const Recipe& recipe_;
  const Session& session_;
  ChatConsole console_;
  PythonDialog dialog_;
  bool template_;
  nlohmann::json system_;    // the message; null: none
  nlohmann::json messages_;  // as rows have them
};

}  // namespace

void run_chat(const Recipe& recipe, Session& session, const std::optional<std::string>& system) {
  Comm& world = session.parallel().world();
  std::optional<Host> host;
  if (world.rank() == 0) host.emplace(recipe, session, system);
  for (;;) {
    const Order order = shared(world, host ? host->next() : Order{});
    if (order.quit) return;
    if (order.prompt.empty()) continue;
    GenerateOptions options = recipe.generate;
    options.max_new_tokens = order.max_new_tokens;
    if (host) {
      host->answer(order.prompt, order.stop, options);
    } else {
      const GenerationWatch watch{.on_token = [](const Completion&) {},
                                  .ends = [] { return false; }};
      generate(session, std::span(&order.prompt, 1), order.stop, options, &watch);
    }
  }
}

}  // namespace sutor
