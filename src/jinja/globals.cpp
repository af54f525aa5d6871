// Objects that templates use by name: namespaces, loops, and the global functions.
#include <algorithm>
#include <array>

#include "jinja/arguments.h"
#include "jinja/format.h"
#include "jinja/interpreter.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100000;  // as in Jinja2's sandbox

Value make_range(Interpreter& interpreter, Arguments& arguments) {
  const BoundArguments bound("range", arguments, {"start", "stop", "step"}, 1);
  std::int64_t start = bound.integer(0, 0);
  std::int64_t stop = bound.integer(1, 0);
  const std::int64_t step = bound.integer(2, 1);
  if (!bound.find(1)) {
    stop = start;
    start = 0;
  }
  check(step != 0, "range() arg 3 must not be zero");
  const std::int64_t span = step > 0 ? stop - start : start - stop;
  const std::int64_t width = std::abs(step);
  const std::int64_t count = span <= 0 ? 0 : (span + width - 1) / width;
  check(count <= kMaxRange, "a range of {} numbers is too big; at most {} are allowed", count,
        kMaxRange);
  interpreter.budget().spend_values(static_cast<std::uint64_t>(count));
  std::vector<Value> values;
  for (std::int64_t i = 0; i < count; ++i) values.emplace_back(Integer{start + i * step});
  return Sequence(std::move(values), Sequence::Kind::kRange);
}

// dict(mapping or pairs, **more).
Dict make_dict(Interpreter& interpreter, const Arguments& arguments) {
  Budget& budget = interpreter.budget();
  check(arguments.positional.size() <= 1, "dict expected at most 1 argument, not {}",
        arguments.positional.size());
  Dict dict;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    source.require_defined();
    if (source.dict()) budget.spend_values(source.dict()->entries.size());
    if (source.dict()) dict = *source.dict();
    if (!source.dict())
      for (const Value& pair : iterate(source, budget)) {
        const std::vector<Value> parts = iterate(pair, budget);
        check(parts.size() == 2, "a pair for dict() has {} elements", parts.size());
        dict.set(parts[0], parts[1], budget);
      }
  }
  for (const auto& [name, value] : arguments.named) dict.set(Value::trusted(name), value, budget);
  return dict;
}

Value make_namespace(Interpreter& interpreter, Arguments& arguments) {
  auto space = std::make_shared<Namespace>();
  for (const auto& [key, value] : make_dict(interpreter, arguments).entries)
    space->set(key, value, interpreter.budget());
  interpreter.budget().spend_values(1);
  interpreter.keep(space);
  return Value(std::shared_ptr<Object>(std::move(space)));
}

// What cycler() makes: hands out its values in turn.
class Cycler final : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(std::vector<Value> values) : values_(std::move(values)) {
    check(!values_.empty(), "cycler() needs at least one value");
  }
  std::string type_name() const override { return "Cycler"; }
  void clear() override { values_.clear(); }
  Value attribute(std::string_view name) override {
    if (name == "current") return values_[position_];
    if (name != "next" && name != "reset") return Object::attribute(name);
    const bool next = name == "next";
    return Value(std::make_shared<Function>(
        std::string(name), [self = shared_from_this(), next](Interpreter&, Arguments&) -> Value {
          const std::size_t position = self->position_;
          self->position_ = next ? (position + 1) % self->values_.size() : 0;
          return next ? self->values_[position] : Value(None());
        }));
  }

 private:
  std::vector<Value> values_;
  std::size_t position_ = 0;
};

Value make_cycler(Interpreter& interpreter, Arguments& arguments) {
  auto cycler = std::make_shared<Cycler>(arguments.positional);
  interpreter.keep(cycler);
  return Value(std::shared_ptr<Object>(std::move(cycler)));
}

Value make_joiner(Interpreter&, Arguments& arguments) {
  const BoundArguments bound("joiner", arguments, {"sep"});
  const MarkedText separator = bound.find(0) ? bound.text(0) : MarkedText(", ", true);
  return Value(std::make_shared<Function>(
      "joiner", [separator, used = false](Interpreter&, Arguments&) mutable -> Value {
        return std::exchange(used, true) ? separator : MarkedText();
      }));
}

Value raise_exception(Interpreter& interpreter, Arguments& arguments) {
  const BoundArguments bound("raise_exception", arguments, {"message"}, 1);
  fail("{}", to_text(bound.required(0), interpreter.budget()).bytes());
}

Value strftime_now(Interpreter& interpreter, Arguments& arguments) {
  const BoundArguments bound("strftime_now", arguments, {"format"}, 1);
  const std::string format = bound.text(0).bytes() + " ";  // so that no result is empty
  check(format.size() <= 256, "strftime_now(): the format is longer than 255 bytes");
  std::array<char, 4096> buffer{};
  const std::size_t size =
      std::strftime(buffer.data(), buffer.size(), format.c_str(), &interpreter.now());
  check(size > 0, "strftime_now(): the result is too long");
  return Value::trusted(std::string_view(buffer.data(), size - 1));
}

}  // namespace

Function::Function(std::string name, Body body, int depth)
    : name_(std::move(name)), body_(std::move(body)) {
  set_depth(depth + 1);
}

void add_globals(Scope& scope, Budget& budget) {
  const auto add = [&](const char* name, Function::Body body) {
    scope.set(name, Value(std::make_shared<Function>(name, std::move(body))), budget);
  };
  add("range", make_range);
  add("dict", [](Interpreter& interpreter, Arguments& arguments) -> Value {
    return make_dict(interpreter, arguments);
  });
  add("namespace", make_namespace);
  add("cycler", make_cycler);
  add("joiner", make_joiner);
  add("raise_exception", raise_exception);
  add("strftime_now", strftime_now);
}

Value Namespace::attribute(std::string_view name) {
  const Value* value = attributes_.find(name);
  return value ? *value : Object::attribute(name);
}

void Namespace::set(Value name, Value value, Budget& budget) {
  check(name.text() && !name.text()->bytes().starts_with("_"),
        "a namespace cannot have this attribute");
  attributes_.set(std::move(name), std::move(value), budget);
}

Value Loop::cycle(Arguments& arguments) const {
  check(!arguments.positional.empty(), "no items for cycling given");
  return arguments.positional[static_cast<std::size_t>(index_) % arguments.positional.size()];
}

Value Loop::changed(Arguments& arguments, Budget& budget) {
  Value values = Sequence(std::move(arguments.positional), Sequence::Kind::kTuple);
  if (equals(values, last_changed_, budget)) return false;
  last_changed_ = std::move(values);
  return true;
}

Value Loop::attribute(std::string_view name) {
  const auto length = static_cast<std::ptrdiff_t>(items_.size());
  const auto item = [&](std::ptrdiff_t index, const char* message) {
    return index >= 0 && index < length ? items_[static_cast<std::size_t>(index)]
                                        : Value::undefined(message);
  };
  if (name == "index") return Integer{index_ + 1};
  if (name == "index0") return Integer{index_};
  if (name == "revindex") return Integer{length - index_};
  if (name == "revindex0") return Integer{length - index_ - 1};
  if (name == "first") return index_ == 0;
  if (name == "last") return index_ + 1 == length;
  if (name == "length") return Integer{length};
  if (name == "depth") return 1;
  if (name == "depth0") return 0;
  if (name == "previtem") return item(index_ - 1, "there is no previous item");
  if (name == "nextitem") return item(index_ + 1, "there is no next item");
  if (name == "cycle" || name == "changed") {
    const bool cycles = name == "cycle";
    return Value(std::make_shared<Function>(
        std::string(name),
        [self = shared_from_this(), cycles](Interpreter& interpreter, Arguments& arguments) {
          return cycles ? self->cycle(arguments) : self->changed(arguments, interpreter.budget());
        }));
  }
  return Object::attribute(name);
}

}  // namespace lockstep::jinja
