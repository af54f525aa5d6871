#include "jinja/template.h"

#include "jinja/interpreter.h"
#include "jinja/parser.h"
#include "text/utf8.h"

namespace lockstep::jinja {

Template::Template(std::string_view source, std::string name) : name_(std::move(name)) {
  check(source.size() <= kMaxTemplateBytes, "{}: {} bytes are more than the {} that are read",
        name_, source.size(), kMaxTemplateBytes);
  check(is_valid_utf8(source), "{}: not UTF-8", name_);
  try {
    body_ = parse(source);
  } catch (const Error& error) {
    fail("{}, {}", name_, error.what());
  }
}

MarkedText Template::render(const std::vector<std::pair<std::string, Value>>& variables,
                            const std::tm& now) const {
  Interpreter interpreter(kMaxSteps, kMaxOutputBytes, now);
  try {
    const auto scope = std::make_shared<Scope>();
    for (const auto& [name, value] : variables) scope->set(name, value, interpreter.budget());
    return interpreter.run(body_, scope);
  } catch (const Error& error) {
    fail("{}, line {}: {}", name_, interpreter.line(), error.what());
  }
}

}  // namespace lockstep::jinja
