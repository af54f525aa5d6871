// Reading lines from a terminal with editing and a history that is kept in a file. One at a time;
// one thread.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace lockstep::cli {

// $XDG_STATE_HOME/lockstep/NAME, or below ~/.local/state. Empty when there is no home.
std::filesystem::path state_file(const std::string& name);

class LineEditor {
 public:
  enum class Result { kLine, kInterrupt, kEnd };

  // Writes prompts to stderr. `history`: a file that is read, and written when this ends; empty:
  // none. What cannot be read or written is left alone.
  explicit LineEditor(const std::filesystem::path& history);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // Puts a line, without its end, into `line`. kInterrupt: Ctrl-C, with what stood there in `line`.
  // kEnd: Ctrl-D on an empty line, or the terminal is gone.
  Result read(const std::string& prompt, std::string& line);
  void add_history(const std::string& entry);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep::cli
