#include "jinja/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "core/check.h"
#include "jinja/python_text.h"
#include "text/utf8.h"

namespace lockstep::jinja {
namespace {

constexpr std::size_t kMaxTokens = std::size_t{1} << 20;

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_decimal(char c) { return c >= '0' && c <= '9'; }

// Every line break as "\n", and without the last one, as Jinja does before anything else.
std::string normalized(std::string_view source) {
  std::string out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

// Where "{{", "{%" or "{#" is; npos: nowhere.
std::size_t find_tag(std::string_view text) {
  constexpr std::string_view kSeconds = "{%#";
  for (std::size_t at = text.find('{'); at != text.npos; at = text.find('{', at + 1))
    if (at + 1 < text.size() && kSeconds.find(text[at + 1]) != kSeconds.npos) return at;
  return text.npos;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) data();
    add(Token::Type::kEnd, "end of template");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& message) const { fail("line {}: {}", line_, message); }

  void add(Token::Type type, std::string text) {
    check(tokens_.size() < kMaxTokens, "the template has more than {} tokens", kMaxTokens);
    tokens_.push_back({type, std::move(text), line_});
  }

  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  bool at(std::string_view text) const { return rest().starts_with(text); }

  void advance(std::size_t count) {
    const std::string_view passed = rest().substr(0, count);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    if (!passed.empty()) line_starting_ = passed.back() == '\n';
    position_ += passed.size();
  }

  void skip_spaces() {
    std::size_t end = position_;
    while (end < source_.size() && is_space(decode_utf8(source_, end).code_point))
      end = next_character(source_, end);
    advance(end - position_);
  }

  // Text up to a tag and what the tag's sign, or lstrip_blocks, leaves of it.
  void add_data(std::string_view text, char sign, bool is_variable) {
    if (sign == '-') {
      text = text.substr(0, strip(MarkedText(text, true), Side::kRight).size());
    } else if (sign != '+' && !is_variable) {
      const std::size_t line = text.rfind('\n') + 1;
      const std::string_view last = text.substr(line);
      const bool blank = strip(MarkedText(last, true)).empty();
      if ((line > 0 || line_starting_) && blank) text = text.substr(0, line);
    }
    if (!text.empty()) add(Token::Type::kData, std::string(text));
  }

  // The end of a tag: "-" takes the white space behind it along, and without a sign a block or a
  // comment takes one line break.
  bool end_tag(std::string_view end, bool trims) {
    const bool minus = at("-") && rest().substr(1).starts_with(end);
    const bool plus = trims && at("+") && rest().substr(1).starts_with(end);
    if (!minus && !plus && !at(end)) return false;
    advance(end.size() + (minus || plus ? 1 : 0));
    if (minus) {
      skip_spaces();
    } else if (!plus && trims && at("\n")) {
      advance(1);
    }
    return true;
  }

  // Text and the tag behind it.
  void data() {
    const std::string_view text = rest();
    const std::size_t tag = find_tag(text);
    if (tag == text.npos) {
      add(Token::Type::kData, std::string(text));
      return advance(text.size());
    }
    const char kind = text[tag + 1];
    const char sign = tag + 2 < text.size() ? text[tag + 2] : '\0';
    const bool is_sign = sign == '-' || sign == '+';
    add_data(text.substr(0, tag), sign, kind == '{');
    advance(tag + 2 + (is_sign ? 1 : 0));
    if (kind == '#') {
      comment();
    } else if (kind == '%' && raw()) {
      return;
    } else if (kind == '%') {
      add(Token::Type::kBlockBegin, "{%");
      tag_tokens("%}", Token::Type::kBlockEnd);
    } else {
      add(Token::Type::kVariableBegin, "{{");
      tag_tokens("}}", Token::Type::kVariableEnd);
    }
  }

  void comment() {
    if (rest().empty()) return;
    const std::size_t end = rest().find("#}");
    if (end == std::string_view::npos) error("a comment has no end: '#}' is missing");
    const char sign = end > 0 ? rest()[end - 1] : '\0';
    advance(sign == '-' || sign == '+' ? end - 1 : end);
    end_tag("#}", true);
  }

  // A {% raw %} block, all of it. False, and nothing done, for another tag.
  bool raw() {
    const std::size_t before = position_;
    const int line = line_;
    skip_spaces();
    if (at("raw")) {
      advance(3);
      skip_spaces();
      if (end_tag("%}", false)) {
        raw_text();
        return true;
      }
    }
    position_ = before;
    line_ = line;
    return false;
  }

  void raw_text() {
    const std::size_t begin = position_;
    const bool started = line_starting_;
    for (std::size_t tag = source_.find("{%", begin); tag != std::string::npos;
         tag = source_.find("{%", tag + 1)) {
      position_ = tag + 2;
      const char sign = position_ < source_.size() ? source_[position_] : '\0';
      if (sign == '-' || sign == '+') ++position_;
      skip_spaces();
      if (!at("endraw")) continue;
      advance(6);
      skip_spaces();
      const std::size_t end = position_;
      if (!end_tag("%}", true)) continue;
      const std::size_t after = position_;
      const bool starting = line_starting_;
      position_ = end;
      line_starting_ = started;
      add_data(std::string_view(source_).substr(begin, tag - begin), sign, false);
      position_ = after;
      line_starting_ = starting;
      const std::string_view passed = std::string_view(source_).substr(0, after);
      line_ = 1 + static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
      return;
    }
    error("a raw block has no end: '{% endraw %}' is missing");
  }

  void tag_tokens(std::string_view end, Token::Type end_type) {
    std::string open;  // brackets that are to be closed, innermost last
    while (true) {
      if (open.empty()) {
        const int line = line_;
        if (end_tag(end, end_type == Token::Type::kBlockEnd)) {
          tokens_.push_back({end_type, std::string(end), line});
          return;
        }
      }
      if (position_ >= source_.size()) error(fmt::format("a tag has no end: '{}' is missing", end));
      const char c = source_[position_];
      if (is_space(decode_utf8(source_, position_).code_point)) {
        skip_spaces();
      } else if (is_decimal(c)) {
        number();
      } else if (is_name_start(c)) {
        name();
      } else if (c == '"' || c == '\'') {
        string(c);
      } else {
        operation(open);
      }
    }
  }

  void name() {
    std::size_t end = position_;
    while (end < source_.size() && (is_name_start(source_[end]) || is_decimal(source_[end]))) ++end;
    add(Token::Type::kName, source_.substr(position_, end - position_));
    advance(end - position_);
  }

  // The end of digits with single underscores between them.
  std::size_t digits(std::size_t begin, bool (*is_digit)(char)) const {
    std::size_t end = begin;
    while (end < source_.size()) {
      if (is_digit(source_[end])) {
        ++end;
      } else if (source_[end] == '_' && end > begin && end + 1 < source_.size() &&
                 is_digit(source_[end + 1])) {
        ++end;
      } else {
        break;
      }
    }
    return end;
  }

  std::optional<std::size_t> prefixed_integer() const {
    if (source_[position_] != '0' || position_ + 2 >= source_.size()) return std::nullopt;
    bool (*is_digit)(char) = nullptr;
    switch (source_[position_ + 1] | 0x20) {
      case 'x':
        is_digit = [](char c) { return is_decimal(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); };
        break;
      case 'o':
        is_digit = [](char c) { return c >= '0' && c <= '7'; };
        break;
      case 'b':
        is_digit = [](char c) { return c == '0' || c == '1'; };
        break;
      default:
        return std::nullopt;
    }
    const std::size_t begin = position_ + (source_[position_ + 2] == '_' ? 3 : 2);
    const std::size_t end = digits(begin, is_digit);
    return end > begin ? std::optional(end) : std::nullopt;
  }

  void number() {
    Token::Type type = Token::Type::kInteger;
    std::size_t end = position_;
    if (const auto integer = prefixed_integer()) {
      end = *integer;
    } else {
      end = digits(position_, is_decimal);
      // "x.0.5" is an element of an element.
      const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';
      std::size_t more = end;
      if (!after_dot && more + 1 < source_.size() && source_[more] == '.' &&
          is_decimal(source_[more + 1])) {
        more = digits(more + 1, is_decimal);
        type = Token::Type::kFloat;
        end = more;
      }
      if (!after_dot && more + 1 < source_.size() && (source_[more] | 0x20) == 'e') {
        std::size_t exponent = more + 1;
        if (source_[exponent] == '+' || source_[exponent] == '-') ++exponent;
        const std::size_t exponent_end = digits(exponent, is_decimal);
        if (exponent_end > exponent) {
          type = Token::Type::kFloat;
          end = exponent_end;
        }
      }
      const bool zeros = source_.find_first_not_of("0_", position_) >= end;
      if (type == Token::Type::kInteger && source_[position_] == '0' && !zeros) end = position_ + 1;
    }
    std::string text = source_.substr(position_, end - position_);
    std::erase(text, '_');
    add(type, std::move(text));
    advance(end - position_);
  }

  void string(char quote) {
    std::size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) error("a string has no end");
    const std::string_view inside =
        std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    add(Token::Type::kString, unescaped(inside));
    advance(end + 1 - position_);
  }

  // Python's escapes, but for \N{name}.
  std::string unescaped(std::string_view text) const {
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        out += text[i];
        continue;
      }
      const char letter = text[++i];
      const std::size_t known = kLetters.find(letter);
      if (known != kLetters.npos) {
        out += kValues[known];
      } else if (letter == 'x' || letter == 'u' || letter == 'U') {
        i += append_hexadecimal(text.substr(i + 1), letter == 'x' ? 2 : letter == 'u' ? 4 : 8, out);
      } else if (letter >= '0' && letter <= '7') {
        char32_t code = 0;
        std::size_t used = 0;
        for (; used < 3 && i + used < text.size() && text[i + used] >= '0' && text[i + used] <= '7';
             ++used)
          code = code * 8 + static_cast<char32_t>(text[i + used] - '0');
        append_utf8(code, out);
        i += used - 1;
      } else if (letter == 'N') {
        error("the escape \\N{name} in a string is not supported");
      } else if (letter != '\n') {
        out += '\\';
        out += letter;
      }
    }
    return out;
  }

  std::size_t append_hexadecimal(std::string_view digits, std::size_t count,
                                 std::string& out) const {
    char32_t code = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const char c = i < digits.size() ? digits[i] : '\0';
      const char low = static_cast<char>(c | 0x20);
      if (!is_decimal(c) && !(low >= 'a' && low <= 'f'))
        error("a string has an escape with too few hexadecimal digits");
      code = code * 16 + static_cast<char32_t>(is_decimal(c) ? c - '0' : low - 'a' + 10);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      error("a string has an escape that is no character");
    append_utf8(code, out);
    return count;
  }

  void operation(std::string& open) {
    constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [&](std::string_view text) { return at(text); });
    if (found == kOperators.end())
      error(fmt::format("unexpected character {}",
                        quoted(rest().substr(0, next_character(rest(), 0)))));
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') {
      open += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) error(fmt::format("unexpected '{}'", c));
      if (open.back() != c) error(fmt::format("unexpected '{}', expected '{}'", c, open.back()));
      open.pop_back();
    }
    add(Token::Type::kOperator, std::string(*found));
    advance(found->size());
  }

  const std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // nothing but tags stands before this on the line
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace lockstep::jinja
