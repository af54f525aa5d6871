// MarkedText: text of which each byte knows whether it may be part of a control token. What a
// template's author wrote may be; what a user typed may not. A value; no thread-safety of its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace lockstep {

class MarkedText {
 public:
  MarkedText() = default;
  MarkedText(std::string_view bytes, bool trusted)
      : bytes_(bytes), marks_(bytes.size(), trusted ? kTrusted : kUntrusted) {}

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool trusted(std::size_t position) const { return marks_[position] == kTrusted; }
  bool all_trusted() const { return marks_.find(kUntrusted) == marks_.npos; }

  void append(std::string_view bytes, bool trusted) {
    bytes_ += bytes;
    marks_.append(bytes.size(), trusted ? kTrusted : kUntrusted);
  }
  void append(const MarkedText& text) {
    bytes_ += text.bytes_;
    marks_ += text.marks_;
  }
  // The bytes [begin, end) of `text`.
  void append(const MarkedText& text, std::size_t begin, std::size_t end) {
    bytes_.append(text.bytes_, begin, end - begin);
    marks_.append(text.marks_, begin, end - begin);
  }
  MarkedText slice(std::size_t begin, std::size_t end) const {
    MarkedText part;
    part.append(*this, begin, std::max(begin, end));
    return part;
  }

 private:
  static constexpr char kTrusted = 't';
  static constexpr char kUntrusted = 'u';
  std::string bytes_;
  std::string marks_;  // one a byte
};

}  // namespace lockstep
