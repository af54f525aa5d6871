#include "cli/line_editor.h"

#include <histedit.h>
#include <langinfo.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/check.h"

namespace lockstep::cli {
namespace {

constexpr int kHistorySize = 1000;

}  // namespace

struct LineEditor::Impl {
  std::string prompt;
  bool interrupted = false;
  std::filesystem::path file;
  History* history = nullptr;
  EditLine* editor = nullptr;

  static Impl& of(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return *static_cast<Impl*>(data);
  }
  static char* show_prompt(EditLine* editor) { return of(editor).prompt.data(); }
  static unsigned char interrupt(EditLine* editor, int) {
    of(editor).interrupted = true;
    return CC_NEWLINE;
  }
};

std::filesystem::path state_file(const std::string& name) {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state && *state == '/') return std::filesystem::path(state) / "lockstep" / name;
  const char* home = std::getenv("HOME");
  if (!home || *home != '/') return {};
  return std::filesystem::path(home) / ".local/state/lockstep" / name;
}

LineEditor::LineEditor(const std::filesystem::path& history) : impl_(std::make_unique<Impl>()) {
  // Editing needs to know how characters are spelled; nowadays as UTF-8 wherever nothing is said.
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");

  Impl& impl = *impl_;
  impl.editor = el_init("lockstep", stdin, stderr, stderr);
  check(impl.editor != nullptr, "the terminal cannot be used for editing lines");
  impl.history = history_init();
  el_set(impl.editor, EL_CLIENTDATA, &impl);
  el_set(impl.editor, EL_PROMPT, &Impl::show_prompt);
  el_set(impl.editor, EL_EDITOR, "emacs");
  el_set(impl.editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  // Ctrl-C is a key here and not a signal.
  el_set(impl.editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(impl.editor, EL_ADDFN, "lockstep-interrupt", "Give the line up", &Impl::interrupt);
  el_set(impl.editor, EL_BIND, "^C", "lockstep-interrupt", nullptr);

  HistEvent event;
  if (!impl.history) return;
  ::history(impl.history, &event, H_SETSIZE, kHistorySize);
  ::history(impl.history, &event, H_SETUNIQUE, 1);
  el_set(impl.editor, EL_HIST, ::history, impl.history);
  if (history.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(history.parent_path(), error);
  impl.file = history;
  ::history(impl.history, &event, H_LOAD, impl.file.c_str());
}

LineEditor::~LineEditor() {
  if (impl_->history) {
    HistEvent event;
    // The library makes it readable for its owner alone.
    if (!impl_->file.empty()) ::history(impl_->history, &event, H_SAVE, impl_->file.c_str());
    history_end(impl_->history);
  }
  el_end(impl_->editor);
}

LineEditor::Result LineEditor::read(const std::string& prompt, std::string& line) {
  impl_->prompt = prompt;
  impl_->interrupted = false;
  el_set(impl_->editor, EL_PREP_TERM, 1);  // so that whoever sees the prompt can use its keys
  int count = 0;
  const char* text = el_gets(impl_->editor, &count);
  line.assign(text ? text : "", text && count > 0 ? static_cast<std::size_t>(count) : 0);
  if (line.ends_with('\n')) line.pop_back();
  if (impl_->interrupted) {
    std::fputs("^C\n", stderr);
    el_reset(impl_->editor);
    return Result::kInterrupt;
  }
  return text && count > 0 ? Result::kLine : Result::kEnd;
}

void LineEditor::add_history(const std::string& entry) {
  HistEvent event;
  if (impl_->history && !entry.empty())
    ::history(impl_->history, &event, H_ENTER, (entry + "\n").c_str());
}

}  // namespace lockstep::cli
