// The person at the other end of a chat: lines from stdin, Ctrl-C, text as it comes. One process.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sutor {

class ChatConsole {
 public:
  // From now on Ctrl-C (SIGINT) is noted and ends nothing by itself.
  ChatConsole();
  ~ChatConsole();
  ChatConsole(const ChatConsole&) = delete;
  ChatConsole& operator=(const ChatConsole&) = delete;

  enum class Event : uint8_t { kLine, kNothing, kInterrupted, kEnd };
  // The next line of stdin, without its end; kNothing after `seconds` without one, kEnd when there
  // will be no more. The prompt "> " stands before it on a terminal.
  Event read_line(std::string& line, double seconds);

  // Whether Ctrl-C came since the last call.
  bool take_interrupt();

  // A piece of an answer, at once.
  void say(const std::string& text);
  // A line about the chat itself, on stderr.
  void tell(const std::string& line);

 private:
  bool take_line(std::string& line);

  bool terminal_;
  bool prompted_ = false;
  bool ended_ = false;
  std::string pending_;
};

}  // namespace sutor
