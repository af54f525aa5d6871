#include "cli/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace lockstep::cli {
namespace {

// In pixels.
constexpr double kWidth = 760, kHeight = 460;
constexpr double kLeft = 76, kRight = 170, kTop = 66, kBottom = 60;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;

// Told apart by people with any colour vision (Okabe and Ito, 2008), dark enough on white.
constexpr std::array kColors = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5c00", "#56b4e9"};
constexpr const char* kReference = "#555555";

std::string escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // XML has no other control characters.
        out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return out;
}

std::string text(double x, double y, const char* attributes, const std::string& content) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes,
                     escape(content));
}

// The smallest 1, 2 or 5 times a power of ten of which at most six make `largest`.
double tick_step(double largest) {
  const double power = std::pow(10, std::floor(std::log10(largest / 6)));
  for (double factor : {1.0, 2.0, 5.0})
    if (factor * power * 6 >= largest) return factor * power;
  return 10 * power;
}

// Where values are drawn.
class Axes {
 public:
  explicit Axes(const Plot& plot) {
    std::set<double> values;
    double largest = 0;
    for (const Series& series : plot.series) {
      for (const auto& [x, y] : series.points) {
        values.insert(x);
        largest = std::max(largest, y);
      }
    }
    x_values_.assign(values.begin(), values.end());
    step_ = tick_step(largest > 0 ? largest : 1);
    ticks_ = static_cast<int>(std::ceil(largest / step_ - 1e-9));
    ticks_ = std::max(ticks_, 1);
  }

  double x(double value) const {
    const auto index = std::find(x_values_.begin(), x_values_.end(), value) - x_values_.begin();
    const auto count = static_cast<double>(x_values_.size());
    return kLeft + kPlotWidth * (static_cast<double>(index) + 0.5) / count;
  }
  double y(double value) const { return kTop + kPlotHeight * (1 - value / (step_ * ticks_)); }

  std::string draw() const {
    std::string out;
    for (int i = 0; i <= ticks_; ++i) {
      const double height = y(i * step_);
      out += fmt::format(
          "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", kLeft,
          height, kLeft + kPlotWidth, height, i == 0 ? "#444444" : "#dddddd");
      out += text(kLeft - 8, height + 4, "text-anchor=\"end\"", fmt::format("{:g}", i * step_));
    }
    for (double value : x_values_)
      out += text(x(value), kTop + kPlotHeight + 20, "text-anchor=\"middle\"",
                  fmt::format("{:g}", value));
    return out;
  }

 private:
  std::vector<double> x_values_;
  double step_ = 1;
  int ticks_ = 1;
};

std::string draw_series(const Series& series, const Axes& axes, const char* color, double legend) {
  const char* dashes = series.dashed ? " stroke-dasharray=\"7 5\"" : "";
  std::string line, points;
  for (const auto& [x, y] : series.points) {
    line += fmt::format("{}{:.1f},{:.1f}", line.empty() ? "" : " ", axes.x(x), axes.y(y));
    if (series.dashed) continue;
    points += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"><title>{}: {:.3g}</title>"
        "</circle>\n",
        axes.x(x), axes.y(y), color, escape(series.name), y);
  }
  // A reference is a level: with a single value it is drawn through the place of that value.
  if (series.dashed && series.points.size() == 1) {
    const double height = axes.y(series.points[0].second);
    line = fmt::format("{:.1f},{:.1f} {:.1f},{:.1f}", kLeft, height, kLeft + kPlotWidth, height);
  }
  const double left = kLeft + kPlotWidth + 16;
  return fmt::format(
             "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n{}"
             "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
             "stroke-width=\"2\"{}/>\n",
             line, color, dashes, points, left, legend, left + 26, legend, color, dashes) +
         text(left + 34, legend + 4, "", series.name);
}

}  // namespace

std::string svg(const Plot& plot) {
  const Axes axes(plot);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#222222\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
      kWidth, kHeight);
  out += text(kLeft, 28, "font-size=\"17\" font-weight=\"bold\"", plot.title);
  out += text(kLeft, 48, "fill=\"#555555\"", plot.subtitle);
  out += text(kLeft + kPlotWidth / 2, kHeight - 16, "text-anchor=\"middle\"", plot.x_label);
  out += fmt::format(
      "<text transform=\"translate(22 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      kTop + kPlotHeight / 2, escape(plot.y_label));
  out += axes.draw();
  double legend = kTop + 8;
  std::size_t color = 0;
  for (const Series& series : plot.series) {
    out += draw_series(series, axes, series.dashed ? kReference : kColors[color++ % kColors.size()],
                       legend);
    legend += 22;
  }
  return out + "</svg>\n";
}

}  // namespace lockstep::cli
