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
  explicit LineSocket(int fd);  // owns it

  // Tries the addresses ("10.0.0.1") one after the other; throws E0609 naming them.
  static LineSocket connect(const std::vector<std::string>& addresses, int port,
                            double seconds_each);

  bool open() const { return fd_.get() >= 0; }
  int fd() const { return fd_.get(); }
  void close() { fd_.close(); }
  // Sends a line, or keeps it until the socket takes it. False when the other side is gone.
  bool send(const std::string& line);
  bool flush();
  bool wants_to_send() const { return !out_.empty(); }
  // Appends the lines that have come to `lines`. False when the other side is gone, after the last.
  bool read(std::vector<std::string>& lines);

 private:
  FileDescriptor fd_;
  std::string in_, out_;
};

class LineListener {
 public:
  // Listens on any free port, of this host's loopback alone or of all its interfaces.
  explicit LineListener(bool only_this_host);
  int fd() const { return fd_.get(); }
  int port() const { return port_; }
  // A socket without a connection when nobody waits.
  LineSocket accept();

 private:
  FileDescriptor fd_;
  int port_ = 0;
};

// Addresses (IPv4) under which other hosts may reach this one: what the host's name resolves to
// comes first, loopback is left out.
std::vector<std::string> addresses_of_this_host();

}  // namespace sutor
