// Runs a template: a walk over its syntax tree. What it may spend is bounded in steps, recursion
// and output; it sees its inputs and nothing else. One rendering each; one thread.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/ast.h"
#include "jinja/value.h"

namespace lockstep::jinja {

// Names and their values in one block, and the block around it.
class Scope {
 public:
  explicit Scope(std::shared_ptr<Scope> parent = nullptr) : parent_(std::move(parent)) {}
  void set(std::string_view name, Value value, Budget& budget);
  // Here or in a block around this one; null when there is none.
  const Value* find(std::string_view name, Budget& budget) const;

 private:
  std::shared_ptr<Scope> parent_;
  std::vector<std::pair<std::string, Value>> names_;
};
using ScopePtr = std::shared_ptr<Scope>;

// A function that is built in, or a method with the value that it belongs to.
class Function final : public Object {
 public:
  using Body = std::function<Value(Interpreter&, Arguments&)>;
  // `depth`: that of the values that `body` holds.
  Function(std::string name, Body body, int depth = 0);
  std::string type_name() const override { return "function " + name_; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override {
    return body_(interpreter, arguments);
  }

 private:
  std::string name_;
  Body body_;
};

class Interpreter {
 public:
  // `now` is what strftime_now() formats.
  Interpreter(std::uint64_t max_steps, std::size_t max_output, const std::tm& now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  MarkedText run(const Body& body, const ScopePtr& scope);

  Budget& budget() { return budget_; }
  const std::tm& now() const { return now_; }
  int line() const { return line_; }  // of the template, where it is or failed

  Value evaluate(const Expression& expression, const ScopePtr& scope);
  Value call(const Value& function, Arguments& arguments);
  // The text that `body` makes.
  Value capture(const Body& body, const ScopePtr& scope);
  // Keeps an object that others may refer to in circles until the end.
  void keep(std::shared_ptr<Object> object) { kept_.push_back(std::move(object)); }

 private:
  enum class Flow : std::uint8_t { kNext, kBreak, kContinue };
  class Depth;

  Flow run_body(const Body& body, const ScopePtr& scope);
  Flow run_statement(const Statement& statement, const ScopePtr& scope);
  Flow run_for(const Statement& statement, const ScopePtr& scope);
  std::vector<Value> loop_items(const Statement& statement, const ScopePtr& scope);
  void run_call_block(const Statement& statement, const ScopePtr& scope);
  void run_set_block(const Statement& statement, const ScopePtr& scope);
  Value make_macro(const Statement& statement, const ScopePtr& scope);
  void print(const Value& value);
  void assign(const Expression& target, Value value, Scope& scope);
  void assign_attribute(const Expression& target, Value value, Scope& scope);

  Value evaluate_name(const Expression& expression, const ScopePtr& scope);
  Value evaluate_container(const Expression& expression, const ScopePtr& scope);
  Value evaluate_compare(const Expression& expression, const ScopePtr& scope);
  Value evaluate_concat(const Expression& expression, const ScopePtr& scope);
  Value evaluate_item(const Expression& expression, const ScopePtr& scope);
  Value evaluate_call(const Expression& expression, const ScopePtr& scope);
  Value evaluate_filter(const Expression& expression, Value operand, const ScopePtr& scope);
  // A chain of filters whose innermost works on `operand`.
  Value evaluate_filters(const Expression& expression, Value operand, const ScopePtr& scope);
  Arguments evaluate_arguments(const CallArguments& arguments, const ScopePtr& scope);

  Budget budget_;
  std::size_t max_output_;
  std::tm now_;
  int line_ = 0;
  int depth_ = 0;
  MarkedText* out_ = nullptr;  // where printing goes
  ScopePtr globals_;
  std::vector<std::shared_ptr<Object>> kept_;
};

// namespace(), whose attributes templates may set.
class Namespace final : public Object {
 public:
  std::string type_name() const override { return "Namespace"; }
  Value attribute(std::string_view name) override;
  void set(Value name, Value value, Budget& budget);
  void clear() override { attributes_ = Dict(); }

 private:
  Dict attributes_;
};

// The loop variable.
class Loop final : public Object, public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(const std::vector<Value>& items) : items_(items) {}
  std::string type_name() const override { return "LoopContext"; }
  Value attribute(std::string_view name) override;
  void advance() { ++index_; }
  void clear() override {
    items_.clear();
    last_changed_ = Value();
  }

 private:
  Value cycle(Arguments& arguments) const;
  Value changed(Arguments& arguments, Budget& budget);

  std::vector<Value> items_;
  std::ptrdiff_t index_ = -1;
  Value last_changed_;
};

// range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
void add_globals(Scope& scope, Budget& budget);

// obj.name and obj[key] as templates see them.
Value attribute_of(const Value& value, std::string_view name);
Value item_of(const Value& value, const Value& key, Budget& budget);
Value slice_of(const Value& value, const Value& start, const Value& stop, const Value& step,
               Budget& budget);
// A method of a text, list or dictionary, bound to it; undefined when there is none of this name.
Value method_of(const Value& value, std::string_view name);

// "+", "-", "*", "/", "//", "%", "**".
Value binary(std::string_view operation, const Value& left, const Value& right, Budget& budget);
Value unary(std::string_view operation, const Value& operand);

// Throws Error for a name that there is not.
Value apply_filter(Interpreter& interpreter, std::string_view name, Arguments& arguments);
bool apply_test(Interpreter& interpreter, std::string_view name, Arguments& arguments);
bool has_filter(std::string_view name);
bool has_test(std::string_view name);

}  // namespace lockstep::jinja
