// Small templates, feature by feature, against what Jinja2 makes of them: see
// scripts/golden/make_jinja_golden.py.
#include <gtest/gtest.h>

#include "jinja/format.h"
#include "jinja/template.h"
#include "text/read_file.h"

namespace lockstep::jinja {
namespace {

std::optional<std::string> render(const std::string& source, const Dict& variables) {
  // 2026-03-07 09:05:03, a Saturday, as in scripts/golden/jinja_reference.py.
  const std::tm now = {.tm_sec = 3,
                       .tm_min = 5,
                       .tm_hour = 9,
                       .tm_mday = 7,
                       .tm_mon = 2,
                       .tm_year = 126,
                       .tm_wday = 6,
                       .tm_yday = 65,
                       .tm_isdst = 0,
                       .tm_gmtoff = 0,
                       .tm_zone = nullptr};
  std::vector<std::pair<std::string, Value>> names;
  for (const auto& [name, value] : variables.entries)
    names.emplace_back(name.text()->bytes(), value);
  try {
    return Template(source, "template").render(names, now).bytes();
  } catch (const Error&) {
    return std::nullopt;
  }
}

TEST(JinjaGolden, EveryTemplateRendersAsInJinja2) {
  const Value file = from_json(
      read_whole_file(LOCKSTEP_GOLDEN_DIR "/jinja/cases.json", std::uint64_t{16} << 20), "cases");
  const Dict& variables = *file.dict()->find("variables")->dict();
  const std::vector<Value>& cases = file.dict()->find("cases")->sequence()->values;
  ASSERT_GT(cases.size(), 1000u);
  for (const Value& entry : cases) {
    const std::string& source = entry.sequence()->values[0].text()->bytes();
    const Value& expected = entry.sequence()->values[1];
    const std::optional<std::string> found = render(source, variables);
    if (expected.is_none())
      EXPECT_FALSE(found.has_value())
          << source << "\nrenders " << found.value_or("") << "\nand is an error in Jinja2";
    else
      EXPECT_EQ(found.value_or("(an error)"), expected.text()->bytes()) << source;
  }
}

}  // namespace
}  // namespace lockstep::jinja
