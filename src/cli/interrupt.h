// Ctrl-C: ends the generation, not the program's good manners.
#pragma once

#include <stop_token>

namespace lockstep::cli {

class Interrupt {
 public:
  // Once, before any other thread is started: from now on SIGINT and SIGTERM are taken by a thread
  // of their own. Unless a Scope is alive they end the process at once.
  static void install();

  // While alive, the first signal requests a stop. A second one ends the process, and so does the
  // first where its Scope is still alive a second and a half later.
  class Scope {
   public:
    Scope();
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    std::stop_token token() const { return source_.get_token(); }
    bool interrupted() const { return source_.stop_requested(); }

   private:
    std::stop_source source_;
  };
};

}  // namespace lockstep::cli
