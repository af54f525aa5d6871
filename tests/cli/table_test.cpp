#include "cli/table.h"

#include <gtest/gtest.h>

#include "lockstep/error.h"

namespace lockstep::cli {
namespace {

Table example() {
  Table table({{"n"}, {"name", Table::Align::kLeft}, {"what it is", Table::Align::kLeft}});
  table.add({"1", "short", "a"});
  table.add({"1000", "naïve", "something that is rather long"});
  return table;
}

TEST(TableTest, ColumnsAreAsWideAsTheirContents) {
  EXPECT_EQ(example().text(0, false),
            "   n  name   what it is\n"
            "   1  short  a\n"
            "1000  naïve  something that is rather long\n");
}

TEST(TableTest, TheWidestTextIsCutShort) {
  EXPECT_EQ(example().text(30, false),
            "   n  name   what it is\n"
            "   1  short  a\n"
            "1000  naïve  something that...\n");
  // Numbers are never cut, nor texts to nothing.
  EXPECT_EQ(example().text(1, false),
            "   n  name   what ...\n"
            "   1  short  a\n"
            "1000  naïve  somet...\n");
}

TEST(TableTest, TheHeadingCanBeBold) {
  EXPECT_TRUE(example().text(0, true).starts_with("\x1b[1m   n  name   what it is\x1b[0m\n"));
}

TEST(TableTest, Markdown) {
  EXPECT_EQ(example().markdown(),
            "| n | name | what it is |\n| ---: | --- | --- |\n| 1 | short | a |\n"
            "| 1000 | naïve | something that is rather long |\n");
}

TEST(TableTest, RowsHaveAsManyCellsAsThereAreColumns) {
  Table table({{"a"}, {"b"}});
  EXPECT_THROW(table.add({"1"}), Error);
}

}  // namespace
}  // namespace lockstep::cli
