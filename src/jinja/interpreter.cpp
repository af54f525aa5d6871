#include "jinja/interpreter.h"

#include <algorithm>

#include "jinja/format.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

constexpr int kMaxDepth = 1000;  // of blocks and expressions that are being worked on

// A macro, or the body of a call block.
class Macro final : public Object {
 public:
  Macro(const Statement& statement, ScopePtr scope)
      : statement_(statement), scope_(std::move(scope)) {}
  std::string type_name() const override { return "Macro"; }
  bool callable() const override { return true; }
  void clear() override { scope_.reset(); }

  Value attribute(std::string_view name) override {
    if (name == "name") return Value::trusted(statement_.text);
    return Object::attribute(name);
  }

  Value call(Interpreter& interpreter, Arguments& arguments) override {
    const auto scope = std::make_shared<Scope>(scope_);
    bind(interpreter, arguments, scope);
    return interpreter.capture(statement_.body, scope);
  }

 private:
  void bind(Interpreter& interpreter, Arguments& arguments, const ScopePtr& scope) {
    Budget& budget = interpreter.budget();
    const std::string& name = statement_.text;
    const std::vector<Parameter>& parameters = statement_.parameters;
    std::vector<std::optional<Value>> given(parameters.size());
    std::vector<Value> rest;
    for (std::size_t i = 0; i < arguments.positional.size(); ++i)
      (i < given.size() ? given[i].emplace() : rest.emplace_back()) =
          std::move(arguments.positional[i]);
    check(rest.empty() || statement_.uses_varargs, "macro {} takes not more than {} argument(s)",
          quoted(name), parameters.size());
    Dict others;
    for (auto& [key, value] : arguments.named) {
      const auto parameter = std::find_if(parameters.begin(), parameters.end(),
                                          [&](const Parameter& p) { return p.name == key; });
      if (parameter != parameters.end()) {
        std::optional<Value>& place =
            given[static_cast<std::size_t>(parameter - parameters.begin())];
        check(!place, "macro {} got multiple values for argument {}", quoted(name), quoted(key));
        place = std::move(value);
      } else if (key == "caller") {
        scope->set(key, std::move(value), budget);
      } else {
        check(statement_.uses_kwargs, "macro {} takes no keyword argument {}", quoted(name),
              quoted(key));
        others.set(Value::trusted(key), std::move(value), budget);
      }
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Parameter& parameter = parameters[i];
      Value value;
      if (given[i])
        value = std::move(*given[i]);
      else if (parameter.default_value)
        value = interpreter.evaluate(*parameter.default_value, scope);
      else
        value =
            Value::undefined(fmt::format("parameter {} was not provided", quoted(parameter.name)));
      scope->set(parameter.name, std::move(value), budget);
    }
    if (statement_.uses_varargs)
      scope->set("varargs", Sequence(std::move(rest), Sequence::Kind::kTuple), budget);
    if (statement_.uses_kwargs) scope->set("kwargs", std::move(others), budget);
  }

  const Statement& statement_;
  ScopePtr scope_;
};

}  // namespace

// Counts how deeply the interpreter is inside of itself.
class Interpreter::Depth {
 public:
  explicit Depth(Interpreter& interpreter) : interpreter_(interpreter) {
    check(interpreter.depth_ < kMaxDepth, "the template calls itself too deeply");
    ++interpreter.depth_;
  }
  ~Depth() { --interpreter_.depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  Interpreter& interpreter_;
};

void Scope::set(std::string_view name, Value value, Budget& budget) {
  budget.spend(1 + names_.size() / 4);
  for (auto& [key, old] : names_) {
    if (key != name) continue;
    old = std::move(value);
    return;
  }
  names_.emplace_back(name, std::move(value));
}

const Value* Scope::find(std::string_view name, Budget& budget) const {
  for (const Scope* scope = this; scope; scope = scope->parent_.get()) {
    budget.spend(1 + scope->names_.size() / 4);
    for (const auto& [key, value] : scope->names_)
      if (key == name) return &value;
  }
  return nullptr;
}

Interpreter::Interpreter(std::uint64_t max_steps, std::size_t max_output, const std::tm& now)
    : budget_(max_steps), max_output_(max_output), now_(now), globals_(std::make_shared<Scope>()) {
  add_globals(*globals_, budget_);
}

Interpreter::~Interpreter() {
  for (const auto& object : kept_) object->clear();
}

MarkedText Interpreter::run(const Body& body, const ScopePtr& scope) {
  MarkedText out;
  out_ = &out;
  run_body(body, scope);
  return out;
}

Value Interpreter::capture(const Body& body, const ScopePtr& scope) {
  MarkedText text;
  MarkedText* const outer = std::exchange(out_, &text);
  run_body(body, scope);
  out_ = outer;
  return text;
}

Interpreter::Flow Interpreter::run_body(const Body& body, const ScopePtr& scope) {
  const Depth depth(*this);
  for (const Statement& statement : body) {
    const Flow flow = run_statement(statement, scope);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_statement(const Statement& statement, const ScopePtr& scope) {
  budget_.spend();
  line_ = statement.line;
  switch (statement.kind) {
    case Statement::Kind::kData:
      print(Value::trusted(statement.text));
      break;
    case Statement::Kind::kPrint:
      print(evaluate(*statement.expression, scope));
      break;
    case Statement::Kind::kIf:
      return run_body(
          evaluate(*statement.expression, scope).truth() ? statement.body : statement.else_body,
          scope);
    case Statement::Kind::kFor:
      return run_for(statement, scope);
    case Statement::Kind::kSet:
      assign(*statement.target, evaluate(*statement.expression, scope), *scope);
      break;
    case Statement::Kind::kSetBlock:
      run_set_block(statement, scope);
      break;
    case Statement::Kind::kMacro:
      scope->set(statement.text, make_macro(statement, scope), budget_);
      break;
    case Statement::Kind::kCallBlock:
      run_call_block(statement, scope);
      break;
    case Statement::Kind::kFilterBlock:
      print(evaluate_filters(*statement.expression,
                             capture(statement.body, std::make_shared<Scope>(scope)), scope));
      break;
    case Statement::Kind::kWith: {
      const auto inner = std::make_shared<Scope>(scope);
      for (const auto& [target, value] : statement.assignments)
        assign(*target, evaluate(*value, scope), *inner);
      return run_body(statement.body, inner);
    }
    case Statement::Kind::kGeneration:
      return run_body(statement.body, std::make_shared<Scope>(scope));
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

std::vector<Value> Interpreter::loop_items(const Statement& statement, const ScopePtr& scope) {
  const Value iterable = evaluate(*statement.expression, scope);
  std::vector<Value> items = iterate(iterable, budget_);
  if (!statement.condition) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    const auto inner = std::make_shared<Scope>(scope);
    assign(*statement.target, item, *inner);
    if (evaluate(*statement.condition, inner).truth()) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::run_for(const Statement& statement, const ScopePtr& scope) {
  const std::vector<Value> items = loop_items(statement, scope);
  budget_.spend_values(items.size());
  const auto loop = std::make_shared<Loop>(items);
  keep(loop);
  bool completed = false;
  for (const Value& item : items) {
    budget_.spend(4);
    loop->advance();
    const auto inner = std::make_shared<Scope>(scope);
    inner->set("loop", Value(std::shared_ptr<Object>(loop)), budget_);
    assign(*statement.target, item, *inner);
    const Flow flow = run_body(statement.body, inner);
    if (flow == Flow::kBreak) break;
    completed |= flow == Flow::kNext;
  }
  // As in Jinja2, a body that is never run to its end counts like one that is never run.
  return completed ? Flow::kNext : run_body(statement.else_body, std::make_shared<Scope>(scope));
}

void Interpreter::run_set_block(const Statement& statement, const ScopePtr& scope) {
  Value text = capture(statement.body, std::make_shared<Scope>(scope));
  if (statement.expression) text = evaluate_filters(*statement.expression, std::move(text), scope);
  assign(*statement.target, std::move(text), *scope);
}

Value Interpreter::make_macro(const Statement& statement, const ScopePtr& scope) {
  auto macro = std::make_shared<Macro>(statement, scope);
  keep(macro);
  budget_.spend_values(1);
  return Value(std::shared_ptr<Object>(std::move(macro)));
}

void Interpreter::run_call_block(const Statement& statement, const ScopePtr& scope) {
  const Expression& call = *statement.expression;
  const Value function = evaluate(*call.operands[0], scope);
  Arguments arguments = evaluate_arguments(*call.arguments, scope);
  arguments.named.emplace_back("caller", make_macro(statement, scope));
  print(this->call(function, arguments));
}

void Interpreter::print(const Value& value) {
  const MarkedText text = to_text(value, budget_);
  budget_.spend_bytes(text.size());
  check(out_->size() + text.size() <= max_output_, "the output has more than {} bytes",
        max_output_);
  out_->append(text);
}

void Interpreter::assign(const Expression& target, Value value, Scope& scope) {
  if (target.kind == Expression::Kind::kName)
    return scope.set(target.text, std::move(value), budget_);
  if (target.kind == Expression::Kind::kNamespaceAttribute)
    return assign_attribute(target, std::move(value), scope);
  value.require_defined();
  const std::vector<Value> parts = iterate(value, budget_);
  check(parts.size() == target.operands.size(), "{} values to unpack; expected {}", parts.size(),
        target.operands.size());
  for (std::size_t i = 0; i < parts.size(); ++i) assign(*target.operands[i], parts[i], scope);
}

void Interpreter::assign_attribute(const Expression& target, Value value, Scope& scope) {
  const Value* object = scope.find(target.operators[0], budget_);
  auto* const space = object ? dynamic_cast<Namespace*>(object->object().get()) : nullptr;
  check(space != nullptr, "cannot assign attribute on non-namespace object");
  space->set(Value::trusted(target.text), std::move(value), budget_);
}

Value Interpreter::evaluate(const Expression& expression, const ScopePtr& scope) {
  const Depth depth(*this);
  budget_.spend();
  line_ = expression.line;
  const auto operand = [&](std::size_t i) { return evaluate(*expression.operands[i], scope); };
  switch (expression.kind) {
    case Expression::Kind::kConstant:
      return expression.value;
    case Expression::Kind::kName:
      return evaluate_name(expression, scope);
    case Expression::Kind::kTuple:
    case Expression::Kind::kList:
    case Expression::Kind::kDict:
      return evaluate_container(expression, scope);
    case Expression::Kind::kCondition:
      if (operand(0).truth()) return operand(1);
      if (expression.operands[2]) return operand(2);
      return Value::undefined(
          "the inline if-expression evaluated to false and no else section "
          "was defined");
    case Expression::Kind::kOr: {
      Value left = operand(0);
      return left.truth() ? left : operand(1);
    }
    case Expression::Kind::kAnd: {
      Value left = operand(0);
      return left.truth() ? operand(1) : left;
    }
    case Expression::Kind::kNot:
      return !operand(0).truth();
    case Expression::Kind::kCompare:
      return evaluate_compare(expression, scope);
    case Expression::Kind::kConcat:
      return evaluate_concat(expression, scope);
    case Expression::Kind::kBinary: {
      const Value left = operand(0);
      const Value right = operand(1);
      line_ = expression.line;
      return binary(expression.text, left, right, budget_);
    }
    case Expression::Kind::kUnary:
      return unary(expression.text, operand(0));
    case Expression::Kind::kAttribute: {
      const Value value = operand(0);
      line_ = expression.line;
      return attribute_of(value, expression.text);
    }
    case Expression::Kind::kItem:
      return evaluate_item(expression, scope);
    case Expression::Kind::kCall:
      return evaluate_call(expression, scope);
    case Expression::Kind::kFilter:
      return evaluate_filter(expression, operand(0), scope);
    case Expression::Kind::kTest: {
      Value subject = operand(0);
      Arguments arguments = evaluate_arguments(*expression.arguments, scope);
      arguments.positional.insert(arguments.positional.begin(), std::move(subject));
      line_ = expression.line;
      return apply_test(*this, expression.text, arguments);
    }
    case Expression::Kind::kSlice:
    case Expression::Kind::kNamespaceAttribute:
      break;
  }
  fail("an expression that has no value");
}

Value Interpreter::evaluate_name(const Expression& expression, const ScopePtr& scope) {
  if (const Value* value = scope->find(expression.text, budget_)) return *value;
  if (const Value* value = globals_->find(expression.text, budget_)) return *value;
  return Value::undefined(fmt::format("{} is undefined", quoted(expression.text)));
}

Value Interpreter::evaluate_container(const Expression& expression, const ScopePtr& scope) {
  budget_.spend_values(expression.operands.size());
  std::vector<Value> values;
  for (const ExpressionPtr& operand : expression.operands)
    values.push_back(evaluate(*operand, scope));
  if (expression.kind == Expression::Kind::kList) return Sequence(std::move(values));
  if (expression.kind == Expression::Kind::kTuple)
    return Sequence(std::move(values), Sequence::Kind::kTuple);
  Dict dict;
  for (std::size_t i = 0; i < values.size(); i += 2)
    dict.set(std::move(values[i]), std::move(values[i + 1]), budget_);
  return dict;
}

Value Interpreter::evaluate_compare(const Expression& expression, const ScopePtr& scope) {
  const auto holds = [&](const std::string& operation, const Value& left, const Value& right) {
    if (operation == "==") return equals(left, right, budget_);
    if (operation == "!=") return !equals(left, right, budget_);
    if (operation == "in") return contains(right, left, budget_);
    if (operation == "not in") return !contains(right, left, budget_);
    if (operation == "<") return less(left, right, budget_);
    if (operation == ">") return less(right, left, budget_);
    return (operation == "<=" ? less(left, right, budget_) : less(right, left, budget_)) ||
           equals(left, right, budget_);
  };
  Value left = evaluate(*expression.operands[0], scope);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.operands[i + 1], scope);
    line_ = expression.line;
    if (!holds(expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_concat(const Expression& expression, const ScopePtr& scope) {
  MarkedText text;
  for (const ExpressionPtr& operand : expression.operands) {
    const MarkedText part = to_text(evaluate(*operand, scope), budget_);
    budget_.spend_bytes(part.size());
    text.append(part);
  }
  return text;
}

Value Interpreter::evaluate_item(const Expression& expression, const ScopePtr& scope) {
  const Value value = evaluate(*expression.operands[0], scope);
  const Expression& key = *expression.operands[1];
  if (key.kind != Expression::Kind::kSlice) {
    const Value index = evaluate(key, scope);
    line_ = expression.line;
    return item_of(value, index, budget_);
  }
  const auto bound = [&](std::size_t i) -> Value {
    return key.operands[i] ? evaluate(*key.operands[i], scope) : Value(None());
  };
  const Value start = bound(0);
  const Value stop = bound(1);
  const Value step = bound(2);
  line_ = expression.line;
  return slice_of(value, start, stop, step, budget_);
}

Arguments Interpreter::evaluate_arguments(const CallArguments& arguments, const ScopePtr& scope) {
  Arguments values;
  for (const ExpressionPtr& argument : arguments.positional)
    values.positional.push_back(evaluate(*argument, scope));
  if (arguments.list) {
    const std::vector<Value> more = iterate(evaluate(*arguments.list, scope), budget_);
    values.positional.insert(values.positional.end(), more.begin(), more.end());
  }
  for (const auto& [name, argument] : arguments.named)
    values.named.emplace_back(name, evaluate(*argument, scope));
  if (!arguments.dict) return values;
  const Value more = evaluate(*arguments.dict, scope);
  check(more.dict() != nullptr, "argument after ** must be a mapping, not {}", more.type_name());
  budget_.spend_values(more.dict()->entries.size());
  for (const auto& [key, value] : more.dict()->entries) {
    check(key.text() != nullptr, "keywords must be strings");
    values.named.emplace_back(key.text()->bytes(), value);
  }
  return values;
}

Value Interpreter::call(const Value& function, Arguments& arguments) {
  const Depth depth(*this);
  function.require_defined();
  const std::shared_ptr<Object> object = function.object();
  check(object && object->callable(), "'{}' object is not callable", function.type_name());
  return object->call(*this, arguments);
}

Value Interpreter::evaluate_call(const Expression& expression, const ScopePtr& scope) {
  const Value function = evaluate(*expression.operands[0], scope);
  Arguments arguments = evaluate_arguments(*expression.arguments, scope);
  line_ = expression.line;
  return call(function, arguments);
}

Value Interpreter::evaluate_filter(const Expression& expression, Value operand,
                                   const ScopePtr& scope) {
  Arguments arguments = evaluate_arguments(*expression.arguments, scope);
  arguments.positional.insert(arguments.positional.begin(), std::move(operand));
  line_ = expression.line;
  return apply_filter(*this, expression.text, arguments);
}

Value Interpreter::evaluate_filters(const Expression& expression, Value operand,
                                    const ScopePtr& scope) {
  const Depth depth(*this);
  const ExpressionPtr& inner = expression.operands[0];
  if (inner) operand = evaluate_filters(*inner, std::move(operand), scope);
  return evaluate_filter(expression, std::move(operand), scope);
}

}  // namespace lockstep::jinja
