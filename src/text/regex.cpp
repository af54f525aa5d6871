#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/check.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

constexpr std::size_t kMaxPatternBytes = 16384;
constexpr std::uint32_t kMatchLimit = 20'000'000;  // backtracking steps of one match
constexpr std::uint32_t kDepthLimit = 1'000'000;
constexpr std::uint32_t kHeapLimitKib = 64 * 1024;
constexpr std::size_t kJitStackBytes = 1 << 20;

// Oniguruma's \w. The numbers below U+0100 come from its table for Latin-1.
constexpr std::string_view kWord =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";

std::string message_of(int error) {
  PCRE2_UCHAR buffer[256];
  const int length = pcre2_get_error_message(error, buffer, sizeof(buffer));
  return length < 0 ? fmt::format("error {}", error)
                    : std::string(reinterpret_cast<const char*>(buffer));
}

// What a match writes to; one a thread, for all patterns.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr);

  Scratch() {
    if (data == nullptr || context == nullptr) return;
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_depth_limit(context, kDepthLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

// Walks over an Oniguruma pattern and writes the PCRE2 one.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& source)
      : pattern_(pattern), source_(source) {}

  std::string run() {
    while (position_ < pattern_.size()) {
      const char c = pattern_[position_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else {
        if (c == '+') refuse_possessive_interval();
        if (ahead("{,")) refuse("'{,'");
        if (c == '}') escaped_brace_ = false;
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail("{}: the regular expression '{}' uses {}, which is not supported", source_, pattern_,
         what);
  }

  bool ahead(std::string_view text) const { return pattern_.substr(position_).starts_with(text); }

  void copy(std::size_t count) {
    out_ += pattern_.substr(position_, count);
    position_ += count;
  }

  void replace(std::size_t count, std::string_view with) {
    out_ += with;
    position_ += count;
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (ahead("^")) copy(1);
    if (ahead("]")) replace(1, "\\]");
  }

  void class_character(char c) {
    if (c == '[') refuse("a class within a class");
    if (ahead("&&")) refuse("an intersection of classes");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  // "(?" is followed by what both engines understand alike, or refused.
  void group() {
    if (!ahead("(?")) {
      if (ahead("(*")) refuse("'(*'");
      return copy(1);
    }
    for (const std::string_view form : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"})
      if (ahead(form)) return copy(form.size());
    // Elsewhere than at the start the two engines disagree about where it ends.
    if (ahead("(?i)") && position_ == 0) return copy(4);
    refuse("a group of the kind '" + std::string(pattern_.substr(position_, 4)) + "'");
  }

  // In Ruby's syntax `x{2,3}+` repeats, in Perl's it is possessive.
  void refuse_possessive_interval() const {
    if (position_ > 0 && pattern_[position_ - 1] == '}' && !escaped_brace_)
      refuse("'+' after an interval");
  }

  void escape() {
    if (position_ + 1 >= pattern_.size()) refuse("a '\\' at its end");
    const char c = pattern_[position_ + 1];
    escaped_brace_ = false;
    switch (c) {
      case 's':
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'd':
        return replace(2, "\\p{Nd}");
      case 'D':
        return replace(2, "\\P{Nd}");
      case 'w':
        return replace(2, in_class_ ? std::string(kWord) : fmt::format("[{}]", kWord));
      case 'W':
        if (in_class_) refuse("'\\W' within a class");
        return replace(2, fmt::format("[^{}]", kWord));
      case 'v':
        return replace(2, "\\x0b");
      case 'p':
      case 'P':
        return property();
      case 'u':
      case 'x':
        return hexadecimal(c);
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'e':
      case 'a':
        return copy(2);
      case 'A':
      case 'z':
      case 'Z':
      case 'G':
        if (in_class_) refuse("an anchor within a class");
        return copy(2);
      default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
          refuse("'\\" + std::string(1, c) + "'");
        escaped_brace_ = c == '}';
        if (static_cast<unsigned char>(c) >= 0x80) return replace(1, "");  // itself, whole
        return copy(2);
    }
  }

  // \uHHHH and \x{H...} name a code point; \xHH does below 0x80 (a byte otherwise).
  void hexadecimal(char kind) {
    position_ += 2;
    const bool braces = kind == 'x' && ahead("{");
    if (braces) ++position_;
    const std::size_t most = kind == 'u' ? 4 : (braces ? 6 : 2);
    std::size_t digits = 0;
    char32_t value = 0;
    for (; digits < most && position_ < pattern_.size(); ++digits, ++position_) {
      const char c = pattern_[position_];
      if (c >= '0' && c <= '9') {
        value = value * 16 + static_cast<char32_t>(c - '0');
      } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
        value = value * 16 + static_cast<char32_t>((c | 0x20) - 'a' + 10);
      } else {
        break;
      }
    }
    if (digits == 0 || (kind == 'u' && digits != 4) || (braces && !ahead("}")))
      refuse("a malformed hexadecimal escape");
    if (braces) ++position_;
    escaped_brace_ = braces;
    if (kind == 'x' && !braces && value >= 0x80) refuse("'\\x' with a byte beyond 7f");
    out_ += fmt::format("\\x{{{:x}}}", static_cast<std::uint32_t>(value));
  }

  // A general category is the same in both; any other name is taken for a script, by its Script
  // property as in Oniguruma (PCRE2 alone would use Script_Extensions).
  void property() {
    const std::size_t open = position_ + 2;
    if (open >= pattern_.size() || pattern_[open] != '{') refuse("'\\p' without '{'");
    const std::size_t close = pattern_.find('}', open);
    if (close == std::string_view::npos) refuse("'\\p{' without '}'");
    std::string_view name = pattern_.substr(open + 1, close - open - 1);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    for (const char c : name)
      if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'))
        refuse("the property '" + std::string(name) + "'");
    out_ += pattern_.substr(position_, 3);
    if (negated) out_ += '^';
    const bool category = name.size() <= 2;
    if (!category && name != "White_Space" && name != "Alphabetic") out_ += "sc:";
    out_ += name;
    out_ += '}';
    position_ = close + 1;
    escaped_brace_ = true;
  }

  std::string_view pattern_;
  const std::string& source_;
  std::size_t position_ = 0;
  bool in_class_ = false;
  bool escaped_brace_ = false;  // the last '}' ended an escape, not an interval
  std::string out_;
};

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

std::string translate_regex(std::string_view pattern, const std::string& source) {
  check(pattern.size() <= kMaxPatternBytes,
        "{}: a regular expression of {} bytes is longer than the {} that are allowed", source,
        pattern.size(), kMaxPatternBytes);
  return Translator(pattern, source).run();
}

Regex::Regex(std::string_view pattern, const std::string& source) : Regex(pattern, false, source) {}

Regex Regex::literal(std::string_view text, const std::string& source) {
  return Regex(text, true, source);
}

Regex::Regex(std::string_view pattern, bool is_literal, const std::string& source)
    : pattern_(pattern), source_(source) {
  const std::string translated =
      is_literal ? std::string(pattern) : translate_regex(pattern, source);
  const std::uint32_t options =
      PCRE2_UTF |
      (is_literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
  auto code = std::make_shared<Code>();
  int error = 0;
  std::size_t offset = 0;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  check(context != nullptr, "{}: out of memory for a regular expression", source);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             options, &error, &offset, context.get());
  check(code->code != nullptr, "{}: the regular expression '{}' is malformed: {}", source, pattern,
        message_of(error));
  // Where there is no just-in-time compiler, PCRE2 interprets.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

std::optional<Regex::Match> Regex::find(std::string_view text, std::size_t start) const {
  thread_local const Scratch scratch;
  check(scratch.data != nullptr && scratch.context != nullptr,
        "{}: out of memory for a regular expression", source_);
  const auto run = [&](std::uint32_t options) {
    return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                       options | PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
  };
  int result = run(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  check(result >= 0, "{}: the regular expression '{}' failed on a text of {} bytes: {}", source_,
        pattern_, text.size(), message_of(result));
  const std::size_t* span = pcre2_get_ovector_pointer(scratch.data);
  return Match{span[0], std::max(span[0], span[1])};
}

std::size_t Regex::next_character(std::string_view text, std::size_t position) {
  return position >= text.size() ? position + 1 : position + decode_utf8(text, position).length;
}

}  // namespace lockstep
