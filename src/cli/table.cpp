#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "cli/output.h"
#include "core/check.h"

namespace lockstep::cli {
namespace {

constexpr std::string_view kBold = "\x1b[1m", kPlain = "\x1b[0m";
constexpr std::size_t kNarrowest = 8;  // a column is never cut below this
constexpr std::size_t kGap = 2;

// Bytes that begin a character: every cell is one column wide a character (Latin, digits, "·").
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string cut(const std::string& text, std::size_t width) {
  if (width_of(text) <= width) return text;
  std::size_t end = 0;
  for (std::size_t shown = 0; shown < width - 3; ++shown) do
      ++end;
    while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80);
  return text.substr(0, end) + "...";
}

// https://no-color.org: any value but an empty one turns colours off.
bool decorated() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return output_is_terminal() && (!no_color || !*no_color) &&
         (!terminal || std::string_view(terminal) != "dumb");
}

}  // namespace

void Table::add(std::vector<std::string> cells) {
  check(cells.size() == columns_.size(), "a row of {} cells in a table of {} columns", cells.size(),
        columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text(std::size_t width, bool bold) const {
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) widths.push_back(width_of(column.heading));
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  const auto total = [&] {
    return std::accumulate(widths.begin(), widths.end(), kGap * (widths.size() - 1));
  };
  while (width > 0 && total() > width) {
    std::size_t* widest = nullptr;
    for (std::size_t i = 0; i < widths.size(); ++i)
      if (columns_[i].align == Align::kLeft && (!widest || widths[i] > *widest))
        widest = &widths[i];
    if (!widest || *widest <= kNarrowest) break;
    *widest -= std::min(*widest - kNarrowest, total() - width);
  }

  const auto line = [&](const auto& cell_of) {
    std::string out;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string cell = cut(cell_of(i), widths[i]);
      const std::string padding(widths[i] - width_of(cell), ' ');
      if (i > 0) out.append(kGap, ' ');
      out += columns_[i].align == Align::kLeft ? cell + padding : padding + cell;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out;
  };
  const std::string headings = line([&](std::size_t i) { return columns_[i].heading; });
  std::string out = bold ? fmt::format("{}{}{}\n", kBold, headings, kPlain) : headings + "\n";
  for (const auto& row : rows_) out += line([&](std::size_t i) { return row[i]; }) + "\n";
  return out;
}

std::string Table::markdown() const {
  std::string out = "|", rule = "|";
  for (const Column& column : columns_) {
    out += fmt::format(" {} |", column.heading);
    rule += column.align == Align::kLeft ? " --- |" : " ---: |";
  }
  out += "\n" + rule + "\n";
  for (const auto& row : rows_) out += fmt::format("| {} |\n", fmt::join(row, " | "));
  return out;
}

std::string for_output(const Table& table) {
  return table.text(output_is_terminal() ? output_width() : 0, decorated());
}

std::string heading(std::string_view text) {
  return decorated() ? fmt::format("{}{}{}\n", kBold, text, kPlain) : fmt::format("{}\n", text);
}

}  // namespace lockstep::cli
