// A line chart as SVG.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lockstep::cli {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // ascending x; finite, y at least 0
  bool dashed = false;                            // a reference, not a measurement
};

struct Plot {
  std::string title, subtitle, x_label, y_label;
  std::vector<Series> series;
};

// Readable on light and dark pages: it brings its background. The x values of all series stand at
// equal distances, as degrees and batch sizes that double do; y begins at 0.
std::string svg(const Plot& plot);

}  // namespace lockstep::cli
