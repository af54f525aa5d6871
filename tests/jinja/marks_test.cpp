// What comes from a template's inputs stays known as such, whatever the template does with it.
#include <gtest/gtest.h>

#include "jinja/format.h"
#include "jinja/template.h"

namespace lockstep::jinja {
namespace {

// The output with a "." in place of each byte that is trusted, for the input "Ab" as `s`, ["Ab",
// "c d"] as `xs`, {"k": "Ab"} as `d`, and "{s}" as `f`.
std::string untrusted(const std::string& source) {
  const auto json = [](const char* text) { return from_json(text, "input"); };
  const MarkedText out = Template(source, "template")
                             .render({{"s", json(R"("Ab")")},
                                      {"xs", json(R"(["Ab", "c d"])")},
                                      {"d", json(R"({"k": "Ab"})")},
                                      {"f", json(R"("{} %s")")}},
                                     std::tm{});
  std::string shown;
  for (std::size_t i = 0; i < out.size(); ++i) shown += out.trusted(i) ? '.' : out.bytes()[i];
  return shown;
}

TEST(JinjaMarks, TextThatIsPassedOn) {
  EXPECT_EQ(untrusted("<{{ s }}>"), ".Ab.");
  EXPECT_EQ(untrusted("{{ '<' + s + '>' }}"), ".Ab.");
  EXPECT_EQ(untrusted("{{ '<' ~ s ~ 1 }}"), ".Ab.");
  EXPECT_EQ(untrusted("{% set x = s %}{% set y %}a{{ x }}b{% endset %}{{ y }}"), ".Ab.");
  EXPECT_EQ(untrusted("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(s) ~ m('t') }}"), ".Ab....");
  EXPECT_EQ(untrusted("{% for c in s %}{{ c }},{% endfor %}"), "A.b.");
  EXPECT_EQ(untrusted("{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}"), "k.Ab");
  EXPECT_EQ(untrusted("{% filter upper %}x{{ s }}{% endfilter %}"), ".AB");
  EXPECT_EQ(untrusted("{{ s if true else 'x' }}{{ 'x' if true else s }}"), "Ab.");
  EXPECT_EQ(untrusted("{{ d.k }}{{ d['k'] }}{{ xs[0] }}{{ xs|first }}"), "AbAbAbAb");
}

TEST(JinjaMarks, TextThatIsChanged) {
  EXPECT_EQ(untrusted("{{ s.upper() }}{{ s|lower }}{{ s|title }}{{ s.swapcase() }}"), "ABabAbaB");
  EXPECT_EQ(untrusted("{{ s[::-1] }}{{ s[0] }}{{ s|reverse }}"), "bAAbA");
  EXPECT_EQ(untrusted("{{ (' ' ~ s ~ ' ').strip() }}{{ s|trim('A') }}"), "Abb");
  EXPECT_EQ(untrusted("{{ 'x-y'.replace('-', s) }}"), ".Ab.");
  EXPECT_EQ(untrusted("{{ s.replace('A', 'x') }}"), ".b");
  EXPECT_EQ(untrusted("{{ s.split('A')|join('-') }}"), ".b");
  EXPECT_EQ(untrusted("{{ xs|join('-') }}{{ s.join(['x', 'y']) }}"), "Ab.c d.Ab.");
  EXPECT_EQ(untrusted("{{ s * 2 }}{{ 'x' * 2 }}"), "AbAb..");
  EXPECT_EQ(untrusted("{{ s.ljust(4) }}{{ 'x'.ljust(4, s[0]) }}"), "Ab...AAA");
  EXPECT_EQ(untrusted("{{ '<%s|%r>' % (s, s) }}"), ".Ab..Ab..");
  EXPECT_EQ(untrusted("{{ '<{}>'.format(s) }}{{ f.format('x') }}{{ f % 'x' }}"), ".Ab.. %s{} .");
  EXPECT_EQ(untrusted("{{ s|indent(2, true) }}{{ s|escape }}{{ s|truncate(4) }}"), "..AbAbAb");
  EXPECT_EQ(untrusted("{{ xs|map('upper')|join }}{{ xs|sort|last }}"), "ABC Dc d");
}

TEST(JinjaMarks, TextWithinValuesThatArePrinted) {
  EXPECT_EQ(untrusted("{{ xs }}"), "..Ab....c d..");
  EXPECT_EQ(untrusted("{{ d }}{{ d|tojson }}"), "..k....Ab....k....Ab..");
  EXPECT_EQ(untrusted("{{ d|tojson(indent=2) }}"), ".....k....Ab...");
  EXPECT_EQ(untrusted("{{ {'a': s}|tojson }}"), ".......Ab..");
  EXPECT_EQ(untrusted("{{ s|length }}{{ s|int }}{{ s == 'Ab' }}"), "......");
}

}  // namespace
}  // namespace lockstep::jinja
