#include "jinja/expression_parser.h"

#include <algorithm>
#include <array>

#include "jinja/format.h"

namespace lockstep::jinja {
namespace {

// Far beyond what people write; keeps the parser's and the interpreter's recursion bounded.
constexpr int kMaxNesting = 150;
constexpr int kMaxDepth = 400;

using Kind = Expression::Kind;

std::vector<ExpressionPtr> list_of(ExpressionPtr a, ExpressionPtr b = nullptr) {
  std::vector<ExpressionPtr> list;
  list.push_back(std::move(a));
  if (b) list.push_back(std::move(b));
  return list;
}

}  // namespace

ExpressionParser::Nesting::Nesting(ExpressionParser& parser) : parser_(parser) {
  if (parser.nesting_ >= kMaxNesting)
    parser.error(fmt::format("nested deeper than {} levels", kMaxNesting));
  ++parser.nesting_;
}

void ExpressionParser::error(const std::string& message) const {
  fail("line {}: {}", current().line, message);
}

const Token& ExpressionParser::look() const {
  return tokens_[std::min(position_ + 1, tokens_.size() - 1)];
}

Token ExpressionParser::next() {
  Token token = current();
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool ExpressionParser::at_operator(std::string_view text) const {
  return current().type == Token::Type::kOperator && current().text == text;
}
bool ExpressionParser::at_name(std::string_view text) const {
  return current().type == Token::Type::kName && current().text == text;
}
bool ExpressionParser::skip_operator(std::string_view text) {
  const bool found = at_operator(text);
  if (found) next();
  return found;
}
bool ExpressionParser::skip_name(std::string_view text) {
  const bool found = at_name(text);
  if (found) next();
  return found;
}
void ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) error(fmt::format("expected '{}', found '{}'", text, current().text));
}
std::string ExpressionParser::expect_name() {
  if (current().type != Token::Type::kName)
    error(fmt::format("expected a name, found '{}'", current().text));
  return next().text;
}

ExpressionPtr ExpressionParser::checked(Expression expression) const {
  const auto include = [&](const ExpressionPtr& part) {
    if (part) expression.depth = std::max(expression.depth, part->depth + 1);
  };
  for (const ExpressionPtr& operand : expression.operands) include(operand);
  if (expression.arguments) {
    for (const ExpressionPtr& argument : expression.arguments->positional) include(argument);
    for (const auto& [name, argument] : expression.arguments->named) include(argument);
    include(expression.arguments->list);
    include(expression.arguments->dict);
  }
  if (expression.depth > kMaxDepth)
    error(fmt::format("an expression has more than {} levels", kMaxDepth));
  return std::make_unique<Expression>(std::move(expression));
}

ExpressionPtr ExpressionParser::make(Kind kind, int line, std::vector<ExpressionPtr> operands,
                                     std::string text) const {
  return checked(
      {.kind = kind, .line = line, .text = std::move(text), .operands = std::move(operands)});
}

ExpressionPtr ExpressionParser::parse_expression(bool with_condition) {
  const Nesting nesting(*this);
  return with_condition ? parse_condition() : parse_or();
}

ExpressionPtr ExpressionParser::parse_condition() {
  ExpressionPtr value = parse_or();
  while (at_name("if")) {
    const int line = next().line;
    std::vector<ExpressionPtr> operands = list_of(parse_or());
    operands.push_back(std::move(value));
    operands.push_back(skip_name("else") ? parse_expression() : nullptr);
    value = make(Kind::kCondition, line, std::move(operands));
  }
  return value;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (at_name("or")) {
    const int line = next().line;
    left = make(Kind::kOr, line, list_of(std::move(left), parse_and()));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (at_name("and")) {
    const int line = next().line;
    left = make(Kind::kAnd, line, list_of(std::move(left), parse_not()));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nesting nesting(*this);
  const int line = next().line;
  return make(Kind::kNot, line, list_of(parse_not()));
}

ExpressionPtr ExpressionParser::parse_compare() {
  constexpr std::array<std::string_view, 6> kOperators = {"==", "!=", "<=", ">=", "<", ">"};
  const int line = current().line;
  std::vector<ExpressionPtr> operands = list_of(parse_sum());
  std::vector<std::string> operators;
  while (true) {
    const bool compares =
        current().type == Token::Type::kOperator &&
        std::find(kOperators.begin(), kOperators.end(), current().text) != kOperators.end();
    if (compares) {
      operators.push_back(next().text);
    } else if (skip_name("in")) {
      operators.emplace_back("in");
    } else if (at_name("not") && look().type == Token::Type::kName && look().text == "in") {
      next();
      next();
      operators.emplace_back("not in");
    } else {
      break;
    }
    operands.push_back(parse_sum());
  }
  if (operators.empty()) return std::move(operands.front());
  ExpressionPtr compare = make(Kind::kCompare, line, std::move(operands));
  compare->operators = std::move(operators);
  return compare;
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (at_operator("+") || at_operator("-")) {
    Token token = next();
    left = make(Kind::kBinary, token.line, list_of(std::move(left), parse_concat()),
                std::move(token.text));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  const int line = current().line;
  std::vector<ExpressionPtr> parts = list_of(parse_product());
  while (skip_operator("~")) parts.push_back(parse_product());
  if (parts.size() == 1) return std::move(parts.front());
  return make(Kind::kConcat, line, std::move(parts));
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (at_operator("*") || at_operator("/") || at_operator("//") || at_operator("%")) {
    Token token = next();
    left = make(Kind::kBinary, token.line, list_of(std::move(left), parse_power()),
                std::move(token.text));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (at_operator("**")) {
    Token token = next();
    left = make(Kind::kBinary, token.line, list_of(std::move(left), parse_unary(true)),
                std::move(token.text));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filter) {
  ExpressionPtr operand;
  if (at_operator("-") || at_operator("+")) {
    const Nesting nesting(*this);
    Token token = next();
    operand = make(Kind::kUnary, token.line, list_of(parse_unary(false)), std::move(token.text));
  } else {
    operand = parse_primary();
  }
  operand = parse_postfix(std::move(operand));
  return with_filter ? parse_filter_expression(std::move(operand)) : std::move(operand);
}

ExpressionPtr ExpressionParser::parse_constant(const Token& token) const {
  Value value;
  if (token.type == Token::Type::kInteger) {
    value = *parse_integer(token.text, 0);
  } else if (token.type == Token::Type::kFloat) {
    value = *parse_float(token.text);
  } else if (token.type == Token::Type::kString) {
    value = Value::trusted(token.text);
  } else if (token.text == "true" || token.text == "True") {
    value = true;
  } else if (token.text == "false" || token.text == "False") {
    value = false;
  } else if (token.text == "none" || token.text == "None") {
    value = None();
  } else {
    return nullptr;
  }
  return checked({.kind = Kind::kConstant, .line = token.line, .value = std::move(value)});
}

ExpressionPtr ExpressionParser::parse_primary() {
  Token token = current();
  switch (token.type) {
    case Token::Type::kName: {
      next();
      if (ExpressionPtr constant = parse_constant(token)) return constant;
      seen_varargs_ |= token.text == "varargs";
      seen_kwargs_ |= token.text == "kwargs";
      return make(Kind::kName, token.line, {}, std::move(token.text));
    }
    case Token::Type::kString:
      next();
      while (current().type == Token::Type::kString) token.text += next().text;
      return parse_constant(token);
    case Token::Type::kInteger:
    case Token::Type::kFloat:
      next();
      return parse_constant(token);
    default:
      break;
  }
  if (skip_operator("(")) {
    ExpressionPtr inside = parse_tuple(true, {}, true);
    expect_operator(")");
    return inside;
  }
  if (at_operator("[")) return parse_list();
  if (at_operator("{")) return parse_dict();
  error(fmt::format("unexpected '{}'", token.text));
}

bool ExpressionParser::at_tuple_end(std::string_view end_name) const {
  return current().type == Token::Type::kVariableEnd || current().type == Token::Type::kBlockEnd ||
         at_operator(")") || (!end_name.empty() && at_name(end_name));
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_condition, std::string_view end_name,
                                            bool in_parentheses) {
  const int line = current().line;
  std::vector<ExpressionPtr> parts;
  bool is_tuple = false;
  while (!at_tuple_end(end_name)) {
    parts.push_back(parse_expression(with_condition));
    if (!skip_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !parts.empty()) return std::move(parts.front());
  if (!is_tuple && !in_parentheses)
    error(fmt::format("expected an expression, found '{}'", current().text));
  return make(Kind::kTuple, line, std::move(parts));
}

ExpressionPtr ExpressionParser::parse_target_name(bool with_namespace) {
  if (at_operator("(")) {
    const Nesting nesting(*this);
    next();
    ExpressionPtr inside = parse_target(with_namespace);
    expect_operator(")");
    return inside;
  }
  const Token token = current();
  std::string name = expect_name();
  if (parse_constant(token)) error(fmt::format("cannot assign to '{}'", name));
  if (!with_namespace || !skip_operator("."))
    return make(Kind::kName, token.line, {}, std::move(name));
  ExpressionPtr target = make(Kind::kNamespaceAttribute, token.line, {}, expect_name());
  target->operators.push_back(std::move(name));
  return target;
}

ExpressionPtr ExpressionParser::parse_target(bool with_namespace) {
  const int line = current().line;
  std::vector<ExpressionPtr> parts = list_of(parse_target_name(with_namespace));
  bool is_tuple = false;
  while (skip_operator(",")) {
    is_tuple = true;
    if (at_tuple_end({})) break;
    parts.push_back(parse_target_name(with_namespace));
  }
  return is_tuple ? make(Kind::kTuple, line, std::move(parts)) : std::move(parts.front());
}

ExpressionPtr ExpressionParser::parse_list() {
  const int line = next().line;
  std::vector<ExpressionPtr> items;
  while (!at_operator("]")) {
    if (!items.empty()) expect_operator(",");
    if (at_operator("]")) break;
    items.push_back(parse_expression());
  }
  expect_operator("]");
  return make(Kind::kList, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_dict() {
  const int line = next().line;
  std::vector<ExpressionPtr> items;
  while (!at_operator("}")) {
    if (!items.empty()) expect_operator(",");
    if (at_operator("}")) break;
    items.push_back(parse_expression());
    expect_operator(":");
    items.push_back(parse_expression());
  }
  expect_operator("}");
  return make(Kind::kDict, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr operand) {
  while (true) {
    if (at_operator(".") || at_operator("["))
      operand = parse_subscript(std::move(operand));
    else if (at_operator("("))
      operand = parse_call(std::move(operand));
    else
      return operand;
  }
}

ExpressionPtr ExpressionParser::parse_filter_expression(ExpressionPtr operand) {
  while (true) {
    if (at_operator("|"))
      operand = parse_filters(std::move(operand));
    else if (at_name("is"))
      operand = parse_test(std::move(operand));
    else if (at_operator("("))
      operand = parse_call(std::move(operand));
    else
      return operand;
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr operand) {
  const Token token = next();
  if (token.text == ".") {
    Token name = next();
    if (name.type == Token::Type::kName)
      return make(Kind::kAttribute, token.line, list_of(std::move(operand)), std::move(name.text));
    if (name.type != Token::Type::kInteger) error("expected a name or a number behind '.'");
    return make(Kind::kItem, token.line, list_of(std::move(operand), parse_constant(name)));
  }
  std::vector<ExpressionPtr> parts;
  while (!at_operator("]")) {
    if (!parts.empty()) expect_operator(",");
    parts.push_back(parse_subscribed());
  }
  expect_operator("]");
  ExpressionPtr key = parts.size() == 1 ? std::move(parts.front())
                                        : make(Kind::kTuple, token.line, std::move(parts));
  return make(Kind::kItem, token.line, list_of(std::move(operand), std::move(key)));
}

ExpressionPtr ExpressionParser::parse_subscribed() {
  const int line = current().line;
  ExpressionPtr start;
  if (!at_operator(":")) {
    start = parse_expression();
    if (!at_operator(":")) return start;
  }
  next();
  const auto at_end = [&] { return at_operator("]") || at_operator(","); };
  std::vector<ExpressionPtr> operands;
  operands.push_back(std::move(start));
  operands.push_back(at_operator(":") || at_end() ? nullptr : parse_expression());
  operands.push_back(skip_operator(":") && !at_end() ? parse_expression() : nullptr);
  return make(Kind::kSlice, line, std::move(operands));
}

CallArguments ExpressionParser::parse_call_arguments() {
  expect_operator("(");
  CallArguments arguments;
  bool first = true;
  const auto ensure = [&](bool condition) {
    if (!condition) error("arguments of a call in an order that is not allowed");
  };
  while (!at_operator(")")) {
    if (!first) {
      expect_operator(",");
      if (at_operator(")")) break;
    }
    first = false;
    if (skip_operator("*")) {
      ensure(!arguments.list && !arguments.dict);
      arguments.list = parse_expression();
    } else if (skip_operator("**")) {
      ensure(!arguments.dict);
      arguments.dict = parse_expression();
    } else if (current().type == Token::Type::kName && look().type == Token::Type::kOperator &&
               look().text == "=") {
      ensure(!arguments.dict);
      std::string name = next().text;
      next();
      arguments.named.emplace_back(std::move(name), parse_expression());
    } else {
      ensure(!arguments.list && !arguments.dict && arguments.named.empty());
      arguments.positional.push_back(parse_expression());
    }
  }
  expect_operator(")");
  return arguments;
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr operand) {
  Expression call{.kind = Kind::kCall, .line = current().line};
  call.operands = list_of(std::move(operand));
  call.arguments = std::make_unique<CallArguments>(parse_call_arguments());
  return checked(std::move(call));
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr operand) {
  Expression filter{.kind = Kind::kFilter, .line = current().line, .text = expect_name()};
  while (skip_operator(".")) filter.text.append(".").append(expect_name());
  filter.operands.push_back(std::move(operand));
  filter.arguments = at_operator("(") ? std::make_unique<CallArguments>(parse_call_arguments())
                                      : std::make_unique<CallArguments>();
  return checked(std::move(filter));
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr operand) {
  while (skip_operator("|")) operand = parse_filter(std::move(operand));
  return operand;
}

ExpressionPtr ExpressionParser::parse_block_filters() {
  return parse_filters(parse_filter(nullptr));
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr operand) {
  Expression test{.kind = Kind::kTest, .line = next().line};
  const int line = test.line;
  const bool negated = skip_name("not");
  test.text = expect_name();
  while (skip_operator(".")) test.text.append(".").append(expect_name());
  test.operands = list_of(std::move(operand));
  test.arguments = std::make_unique<CallArguments>();
  const Token::Type type = current().type;
  const bool argument =
      (type == Token::Type::kName && !at_name("else") && !at_name("or") && !at_name("and")) ||
      type == Token::Type::kString || type == Token::Type::kInteger ||
      type == Token::Type::kFloat || at_operator("[") || at_operator("{");
  if (at_operator("(")) {
    *test.arguments = parse_call_arguments();
  } else if (argument) {
    if (at_name("is")) error("'is' cannot be chained");
    const Nesting nesting(*this);
    test.arguments->positional.push_back(parse_postfix(parse_primary()));
  }
  ExpressionPtr done = checked(std::move(test));
  return negated ? make(Kind::kNot, line, list_of(std::move(done))) : std::move(done);
}

}  // namespace lockstep::jinja
