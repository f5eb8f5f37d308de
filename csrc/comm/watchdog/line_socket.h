// TCP sockets that carry lines of text, never blocking: the watchdog's way to the other ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/base/file.h"

namespace sutor {

class LineSocket {
 public:
  LineSocket() = default;
  LineSocket(int fd, size_t longest_line);  // owns it

  // Tries the endpoints ("10.0.0.1:4242") one after the other; throws E0609 naming them.
  static LineSocket connect(const std::vector<std::string>& endpoints, double seconds_each);

  bool open() const { return fd_.get() >= 0; }
  int fd() const { return fd_.get(); }
  void close() { fd_.close(); }
  // Sends a line, or keeps it until the socket takes it. False when the other side is gone.
  bool send(const std::string& line);
  bool flush();
  bool wants_to_send() const { return !out_.empty(); }
  // Appends the lines that have come to `lines`. False when the other side is gone, after the last,
  // or has sent a line that is too long.
  bool read(std::vector<std::string>& lines);
  void allow_long_lines();

 private:
  void take_lines(std::vector<std::string>& lines);

  FileDescriptor fd_;
  std::string in_, out_;
  size_t longest_line_ = 0;  // that it takes
};

class LineListener {
 public:
  // Listens on any free port of one address of this host. Throws E0609.
  explicit LineListener(const std::string& address);
  int fd() const { return fd_.get(); }
  const std::string& endpoint() const { return endpoint_; }  // "10.0.0.1:4242"
  // A socket without a connection when nobody waits.
  LineSocket accept(size_t longest_line);

 private:
  FileDescriptor fd_;
  std::string endpoint_;
};

// Addresses (IPv4) under which other hosts may reach this one: what the host's name resolves to
// comes first, loopback is left out.
std::vector<std::string> addresses_of_this_host();

}  // namespace sutor
