#include "cli/plot.h"

#include <gmock/gmock.h>

namespace lockstep::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(PlotTest, PointsStandWhereTheAxesSay) {
  Plot plot;
  plot.series = {{"batch 1", {{1, 10}, {4, 5}}}, {"floor", {{1, 8}, {4, 2}}, true}};
  // The plane is 514 x 334 pixels at (76, 66); its top is 10, its bottom 0.
  EXPECT_THAT(svg(plot),
              AllOf(HasSubstr("<circle cx=\"204.5\" cy=\"66.0\""),
                    HasSubstr("<circle cx=\"461.5\" cy=\"233.0\""),
                    HasSubstr("<polyline points=\"204.5,66.0 461.5,233.0\" fill=\"none\" "
                              "stroke=\"#0072b2\" stroke-width=\"2\"/>"),
                    HasSubstr("<polyline points=\"204.5,132.8 461.5,333.2\" fill=\"none\" "
                              "stroke=\"#555555\" stroke-width=\"2\" stroke-dasharray"),
                    HasSubstr("text-anchor=\"end\">10</text>"),
                    HasSubstr("text-anchor=\"middle\">4</text>"), HasSubstr(">batch 1</text>")));
}

TEST(PlotTest, AReferenceOfOnePointIsALevel) {
  Plot plot;
  plot.series = {{"measured", {{1, 4}}}, {"floor", {{1, 2}}, true}};
  EXPECT_THAT(svg(plot), HasSubstr("<polyline points=\"76.0,233.0 590.0,233.0\""));
}

TEST(PlotTest, TextIsEscaped) {
  Plot plot;
  plot.title = "a<b>&\"c\"\x01";
  plot.series = {{"<x>", {{1, 1}}}};
  EXPECT_THAT(svg(plot), AllOf(HasSubstr(">a&lt;b&gt;&amp;&quot;c&quot; </text>"),
                               HasSubstr("<title>&lt;x&gt;: 1</title>"), Not(HasSubstr("<x>"))));
}

TEST(PlotTest, NothingAndZerosAreDrawnToo) {
  EXPECT_THAT(svg({}), HasSubstr("</svg>"));
  Plot plot;
  plot.series = {{"zero", {{1, 0}}}};
  EXPECT_THAT(svg(plot), AllOf(HasSubstr("cy=\"400.0\""), Not(HasSubstr("nan"))));
}

}  // namespace
}  // namespace lockstep::cli
