// Tables for people: aligned columns, as wide as their contents; on a terminal no wider than it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep::cli {

class Table {
 public:
  enum class Align : std::uint8_t { kLeft, kRight };
  struct Column {
    std::string heading;
    Align align = Align::kRight;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns.
  void add(std::vector<std::string> cells);

  // With a heading, two blanks between columns and a newline behind each line. Lines longer than
  // `width` are made to fit by cutting the widest left-aligned cells short ("..."); 0: no limit.
  // `bold`: the heading is.
  std::string text(std::size_t width, bool bold) const;
  // A GitHub-flavoured Markdown table.
  std::string markdown() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Table::text() for where stdout goes: no wider than a terminal and bold unless NO_COLOR says
// otherwise; in full and plain for a pipe or file.
std::string for_output(const Table& table);

// A heading of a section, bold on a terminal.
std::string heading(std::string_view text);

}  // namespace lockstep::cli
