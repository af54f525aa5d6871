#include "checkpoint/json.h"

#include <utility>
#include <vector>

#include "checkpoint/file.h"
#include "core/check.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

// Builds the document from the parser's events. The parser does not recurse, nor does this.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const std::string& source) : source_(source) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // JSON has none

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& key) override {
    const auto [place, inserted] = open_.back()->emplace(key, nullptr);
    if (!inserted) fail("{}: duplicate key {} in one object", source_, quote_name(key));
    member_ = &*place;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error ..."
    std::string what = error.what();
    if (const auto bracket = what.find("] "); bracket != std::string::npos)
      what.erase(0, bracket + 2);
    fail("{}: not valid JSON (byte {}): {}", source_, position, what);
  }

 private:
  // Puts `value` where the document goes on and returns its place.
  Json* place(Json value) {
    check(++count_ <= kMaxJsonValues, "{}: more than {} JSON values", source_, kMaxJsonValues);
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) return &open_.back()->emplace_back(std::move(value));
    *member_ = std::move(value);
    return member_;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    check(open_.size() < kMaxJsonDepth, "{}: JSON nested deeper than {} levels", source_,
          kMaxJsonDepth);
    open_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& source_;
  Json root_;
  std::vector<Json*> open_;  // the arrays and objects that are not complete, outermost first
  Json* member_ = nullptr;   // the value of the key that was read last
  std::size_t count_ = 0;
};

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& source) {
  // The parser takes a zero byte for the end of the text, whatever follows.
  const auto zero = text.find('\0');
  check(zero == text.npos, "{}: not valid JSON (byte {}): a zero byte", source, zero);
  Builder builder(source);
  check(Json::sax_parse(text.begin(), text.end(), &builder), "{}: not valid JSON", source);
  return builder.take();
}

nlohmann::json read_json_file(const std::filesystem::path& path, std::uintmax_t max_bytes) {
  const File file(path);
  check(file.size() <= max_bytes, "{}: {} bytes of JSON; at most {} are read", file.name(),
        file.size(), max_bytes);
  reject_git_lfs_pointer(file);
  std::string text(file.size(), '\0');
  file.read(0, text.size(), text.data());
  return parse_json(text, file.name());
}

}  // namespace lockstep
