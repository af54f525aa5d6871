// Templates that anyone may have written: each of these ends soon, with an error that says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jinja/format.h"
#include "jinja/template.h"

namespace lockstep::jinja {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string render(const std::string& source) {
  return Template(source, "file.jinja").render({}, std::tm{}).bytes();
}

std::string error_of(const std::string& source) {
  try {
    return "no error, but: " + render(source).substr(0, 100);
  } catch (const Error& error) {
    return error.what();
  }
}

std::string repeated(const std::string& text, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(JinjaLimits, Steps) {
  const std::string steps = "too many steps";
  const std::string many = "{% for a in range(99999) %}";
  EXPECT_THAT(error_of(many + many + "{% endfor %}{% endfor %}"), HasSubstr(steps));
  // What is paid for before it is made.
  EXPECT_THAT(error_of("{{ 'x' * 4000000000 }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ 'x' * 10**30 }}"), HasSubstr("too large"));
  EXPECT_THAT(error_of("{{ [1] * 100000000 }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ 'x'.ljust(10**9) }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ 'x'|center(10**9) }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ 'a\nb'|indent(10**9) }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ ('x' * 100000).replace('', 'y' * 100000) }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ [1]|batch(10**9, 0)|list }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ [1]|slice(10**9)|list }}"), HasSubstr(steps));
  EXPECT_THAT(error_of("{{ '%1000000d' % 1 }}"), HasSubstr("width or precision"));
  EXPECT_THAT(error_of("{{ [1]|tojson(indent=100000) }}"), HasSubstr("too large"));
  EXPECT_THAT(error_of("{% set ns = namespace(s='x') %}{% for a in range(99) %}"
                       "{% set ns.s = ns.s ~ ns.s %}{% endfor %}"),
              HasSubstr(steps));
  EXPECT_THAT(error_of("{{ range(10**9) }}"), HasSubstr("too big"));
  // A value that shares its parts is small to make and large to print, compare or sort.
  const std::string shared =
      "{% set ns = namespace(x=[1], y=[1]) %}{% for a in range(90) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
  EXPECT_THAT(error_of(shared + "{{ ns.x }}"), HasSubstr(steps));
  EXPECT_THAT(error_of(shared + "{{ ns.x|tojson }}"), HasSubstr(steps));
  EXPECT_THAT(error_of(shared + "{{ ns.x == ns.y }}"), HasSubstr(steps));
  EXPECT_THAT(error_of(shared + "{{ [ns.x, ns.y]|sort }}"), HasSubstr(steps));
}

TEST(JinjaLimits, Output) {
  EXPECT_THAT(error_of("{% set x = 'x' * 1000000 %}{% for a in range(99) %}{{ x }}{% endfor %}"),
              HasSubstr("output has more than"));
}

TEST(JinjaLimits, Recursion) {
  EXPECT_THAT(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("too deeply"));
  EXPECT_THAT(error_of("{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}"),
              HasSubstr("too deeply"));
  for (const auto& [open, close] : {std::pair{"(", ")"},
                                    {"[", "]"},
                                    {"{1:", "}"},
                                    {"-", ""},
                                    {"not ", ""},
                                    {"a if b else ", ""},
                                    {"f(", ")"}}) {
    const std::string source =
        "{{ " + repeated(open, 100000) + "1" + repeated(close, 100000) + " }}";
    EXPECT_THAT(error_of(source), HasSubstr("nested deeper")) << open;
  }
  EXPECT_THAT(error_of(repeated("{% if 1 %}", 100000)), HasSubstr("nested deeper"));
  EXPECT_THAT(error_of("{% set " + repeated("(", 100000) + "a" + repeated(")", 100000) + " %}"),
              HasSubstr("nested deeper"));
  for (const std::string more : {" + 1", "|abs", "[0]", ".x", "()", " and 1", " if 1", " ** 1"})
    EXPECT_THAT(error_of("{{ 1" + repeated(more, 100000) + " }}"), HasSubstr("levels")) << more;
  EXPECT_THAT(error_of("{% if 1 %}" + repeated("{% elif 1 %}", 10000) + "{% endif %}"),
              HasSubstr("branches"));
  // Long is not deep.
  EXPECT_EQ(render("{{ " + repeated("'a' ~ ", 5000) + "'b' }}"), repeated("a", 5000) + "b");
  EXPECT_EQ(render("{{ [" + repeated("1, ", 5000) + "]|length }}"), "5000");
}

TEST(JinjaLimits, ValuesNestedDeeply) {
  const std::string deep = "nested deeper than 100 levels";
  const auto grown = [](const std::string& expression) {
    return "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = " + expression +
           " %}{% endfor %}";
  };
  EXPECT_THAT(error_of(grown("[ns.x]")), HasSubstr(deep));
  EXPECT_THAT(error_of(grown("(ns.x,)")), HasSubstr(deep));
  EXPECT_THAT(error_of(grown("{'a': ns.x}")), HasSubstr(deep));
  EXPECT_THAT(error_of(grown("dict(a=ns.x)")), HasSubstr(deep));
  EXPECT_THAT(error_of(grown("[ns.x].index")), HasSubstr(deep));
  EXPECT_THAT(error_of(grown("[ns.x]|map('list')|list")), HasSubstr(deep));
  EXPECT_THAT(error_of("{{ '" + repeated("[", 200) + "' }}{{ x.y }}"), HasSubstr("undefined"));
  EXPECT_THROW(from_json(repeated("[", 100000), "json"), Error);
}

// Objects may refer to each other, and to themselves: nothing leaks (AddressSanitizer looks), and
// ending a long chain of them needs no deep recursion.
TEST(JinjaLimits, ObjectsThatReferToEachOther) {
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.all = [ns] %}ok"),
            "ok");
  EXPECT_EQ(render("{% set ns = namespace(x=none) %}{% for a in range(50000) %}"
                   "{% set ns.x = namespace(x=ns.x) %}{% endfor %}ok"),
            "ok");
  EXPECT_EQ(render("{% macro make(old) %}{% macro f() %}{{ old }}{% endmacro %}{% set ns.f = f %}"
                   "{% endmacro %}{% set ns = namespace(f=none) %}{% for a in range(20000) %}"
                   "{% set _ = make(ns.f) %}{% endfor %}{% set ns.f = none %}ok"),
            "ok");
  EXPECT_EQ(
      render("{% set ns = namespace(l=none) %}{% for a in range(20000) %}{% for b in [ns.l] %}"
             "{% set ns.l = loop %}{% endfor %}{% endfor %}{% set ns.l = none %}ok"),
      "ok");
  EXPECT_EQ(
      render("{% for a in [1] %}{{ loop.changed(loop) }}{{ loop.changed(loop) }}{% endfor %}"),
      "TrueFalse");
  EXPECT_EQ(render("{% set ns = namespace(c=none) %}{% for a in range(20000) %}"
                   "{% set ns.c = cycler(ns.c) %}{% endfor %}{% set ns.c = none %}ok"),
            "ok");
}

TEST(JinjaLimits, ErrorsNameFileAndLine) {
  EXPECT_THAT(error_of("a\n{{ x.y }}"), StartsWith("file.jinja, line 2: 'x' is undefined"));
  EXPECT_THAT(error_of("a\n\n{% if x %}"), StartsWith("file.jinja, line 3: "));
  EXPECT_THAT(error_of("a\n{% for %}"), StartsWith("file.jinja, line 2: "));
  EXPECT_THAT(error_of("{{ {'a': 1}.b.c }}"), HasSubstr("'dict object' has no attribute 'b'"));
  EXPECT_THAT(error_of("{{ 1 + 'a' }}"), HasSubstr("unsupported operand type(s) for +: 'int' and"));
  EXPECT_THAT(error_of("{{ 1|nope }}"), HasSubstr("no filter named 'nope'"));
  EXPECT_THAT(error_of("{% include 'x' %}"), HasSubstr("the tag 'include' is unknown"));
  EXPECT_THAT(error_of("{{ [].append(1) }}"), HasSubstr("'append'"));
  EXPECT_THAT(error_of("\xff"), HasSubstr("not UTF-8"));
}

}  // namespace
}  // namespace lockstep::jinja
