// JSON in and out.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

#include "checkpoint/json.h"
#include "jinja/format.h"
#include "text/utf8.h"

namespace lockstep::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Budget& budget) : style_(style), budget_(budget) {}

  void write(const Value& value) {
    budget_.spend();
    if (value.is_none()) {
      out.append("null", true);
    } else if (value.is_bool()) {
      out.append(value.boolean() ? "true" : "false", true);
    } else if (value.is_integer()) {
      out.append(fmt::format("{}", value.integer()), true);
    } else if (value.is_float()) {
      write_float(value.number());
    } else if (value.text()) {
      write_text(*value.text());
    } else if (value.dict()) {
      write_dict(*value.dict());
    } else if (value.sequence() && value.sequence()->kind <= Sequence::Kind::kTuple) {
      write_list(*value.sequence());
    } else {
      fail("Object of type {} is not JSON serializable", value.type_name());
    }
  }

  MarkedText out;

 private:
  void write_float(double value) {
    out.append(std::isnan(value)   ? "NaN"
               : std::isinf(value) ? (value < 0 ? "-Infinity" : "Infinity")
                                   : format_float(value),
               true);
  }

  std::string escaped(char32_t c) const {
    constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b";
    constexpr std::string_view kLetters = "\"\\nrtfb";
    if (c < 0x80) {
      const std::size_t at = kSpecial.find(static_cast<char>(c));
      if (at != kSpecial.npos) return std::string("\\") + kLetters[at];
    }
    const auto code = static_cast<std::uint32_t>(c);
    if (code < 0x20 || (style_.ensure_ascii && code >= 0x7F && code < 0x10000))
      return fmt::format("\\u{:04x}", code);
    if (style_.ensure_ascii && code >= 0x10000)
      return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10),
                         0xDC00 + ((code - 0x10000) & 0x3FF));
    return {};
  }

  void write_text(const MarkedText& text) {
    budget_.spend_bytes(text.size());
    out.append("\"", true);
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Step step = decode_utf8(text.bytes(), i);
      const std::string escape = escaped(step.code_point);
      if (escape.empty())
        out.append(text, i, i + step.length);
      else
        out.append(escape, text.trusted(i));
      i += step.length;
    }
    out.append("\"", true);
  }

  void write_key(const Value& key) {
    if (key.text()) return write_text(*key.text());
    check(key.is_none() || key.is_number(), "keys must be str, int, float, bool or None, not {}",
          key.type_name());
    out.append("\"", true);
    write(key);
    out.append("\"", true);
  }

  void new_line() {
    if (!style_.indent) return;
    budget_.spend_bytes(static_cast<std::size_t>(level_) * style_.indent->size());
    out.append("\n", true);
    for (int i = 0; i < level_; ++i) out.append(*style_.indent, true);
  }

  // What goes before the next of a container's elements.
  void separate(bool first) {
    if (!first) out.append(style_.item_separator);
    new_line();
  }

  void write_list(const Sequence& list) {
    if (list.values.empty()) return out.append("[]", true);
    out.append("[", true);
    ++level_;
    for (std::size_t i = 0; i < list.values.size(); ++i) {
      separate(i == 0);
      write(list.values[i]);
    }
    --level_;
    new_line();
    out.append("]", true);
  }

  void write_dict(const Dict& dict) {
    if (dict.entries.empty()) return out.append("{}", true);
    budget_.spend(dict.entries.size());
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return less(a->first, b->first, budget_);
      });
    out.append("{", true);
    ++level_;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      separate(i == 0);
      write_key(entries[i]->first);
      out.append(style_.key_separator);
      write(entries[i]->second);
    }
    --level_;
    new_line();
    out.append("}", true);
  }

  const JsonStyle& style_;
  Budget& budget_;
  int level_ = 0;
};

// Builds a value from the parser's events, in the order of the text. The parser does not recurse.
class JsonReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit JsonReader(const std::string& source) : source_(source) {}

  Value take() { return std::move(root_); }

  bool null() override { return add(None()); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(Integer{value}); }
  bool number_unsigned(number_unsigned_t value) override { return add(Integer{value}); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(MarkedText(value, false)); }
  bool binary(binary_t&) override { return false; }  // JSON has none

  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& key) override {
    open_.back().key = MarkedText(key, false);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail("{}: not valid JSON at byte {}", source_, position);
  }

 private:
  struct Open {
    bool is_object;
    Dict dict;
    std::vector<Value> list;
    Value key;
  };

  bool add(Value value) {
    check(++count_ <= kMaxValues, "{}: more than {} JSON values", source_, kMaxValues);
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().dict.set(std::move(open_.back().key), std::move(value), budget_);
    } else {
      open_.back().list.push_back(std::move(value));
    }
    return true;
  }

  bool open(bool is_object) {
    check(open_.size() < kMaxJsonDepth, "{}: JSON nested deeper than {} levels", source_,
          kMaxJsonDepth);
    open_.push_back({is_object, {}, {}, {}});
    return true;
  }

  bool close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    return done.is_object ? add(Value(std::move(done.dict)))
                          : add(Value(Sequence(std::move(done.list))));
  }

  static constexpr std::size_t kMaxValues = std::size_t{1} << 20;
  const std::string& source_;
  Budget budget_{std::uint64_t{1} << 40};  // the number of values is limited by itself
  Value root_;
  std::vector<Open> open_;  // outermost first
  std::size_t count_ = 0;
};

}  // namespace

MarkedText to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  JsonWriter writer(style, budget);
  writer.write(value);
  return std::move(writer.out);
}

Value from_json(std::string_view json, const std::string& source) {
  const auto zero = json.find('\0');
  check(zero == json.npos, "{}: not valid JSON (byte {}): a zero byte", source, zero);
  JsonReader reader(source);
  check(nlohmann::json::sax_parse(json.begin(), json.end(), &reader), "{}: not valid JSON", source);
  return reader.take();
}

}  // namespace lockstep::jinja
