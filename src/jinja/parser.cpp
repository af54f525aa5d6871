#include "jinja/parser.h"

#include <algorithm>

#include "jinja/expression_parser.h"

namespace lockstep::jinja {
namespace {

using Kind = Statement::Kind;
using Names = std::vector<std::string_view>;

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Body parse_template() {
    Body body = parse_body({});
    if (current().type != Token::Type::kEnd) error(fmt::format("unexpected '{}'", current().text));
    return body;
  }

 private:
  // Up to a block that begins with one of `ends`, which becomes the current token, or, without
  // ends, up to the template's end.
  Body parse_body(const Names& ends) {
    const Nesting nesting(*this);
    const int line = current().line;
    Body body;
    while (current().type != Token::Type::kEnd) {
      Token token = next();
      if (token.type == Token::Type::kData) {
        body.push_back({.kind = Kind::kData, .line = token.line, .text = std::move(token.text)});
      } else if (token.type == Token::Type::kVariableBegin) {
        body.push_back({.kind = Kind::kPrint, .line = token.line, .expression = parse_tuple()});
        expect(Token::Type::kVariableEnd);
      } else {
        const bool ended = current().type == Token::Type::kName &&
                           std::find(ends.begin(), ends.end(), current().text) != ends.end();
        if (ended) return body;
        parse_statement(body);
      }
    }
    if (!ends.empty())
      fail("line {}: a block that begins here has no end: '{}' is missing", line, ends.back());
    return body;
  }

  // The body of a block from behind its tag up to and with its end tag.
  Body parse_block(std::string_view end) {
    begin_body();
    Body body = parse_body({end});
    next();
    expect(Token::Type::kBlockEnd);
    return body;
  }

  // The end of a tag that a body follows.
  void begin_body() {
    skip_operator(":");
    expect(Token::Type::kBlockEnd);
  }

  void expect(Token::Type type) {
    if (current().type != type)
      error(fmt::format("expected the tag's end, found '{}'", current().text));
    next();
  }

  // With its end tag, if it has one.
  void parse_statement(Body& body) {
    const int line = current().line;
    const std::string name = expect_name();
    Statement statement{.line = line};
    if (name == "if") {
      parse_if(statement);
    } else if (name == "for") {
      parse_for(statement);
    } else if (name == "set") {
      parse_set(statement);
    } else if (name == "macro") {
      parse_macro(statement);
    } else if (name == "call") {
      parse_call_block(statement);
    } else if (name == "filter") {
      statement.kind = Kind::kFilterBlock;
      statement.expression = parse_block_filters();
      statement.body = parse_block("endfilter");
    } else if (name == "with") {
      parse_with(statement);
    } else if (name == "generation") {
      statement.kind = Kind::kGeneration;
      statement.body = parse_block("endgeneration");
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) error(fmt::format("'{}' outside of a loop", name));
      statement.kind = name == "break" ? Kind::kBreak : Kind::kContinue;
      expect(Token::Type::kBlockEnd);
    } else {
      fail("line {}: the tag '{}' is unknown, stands in the wrong place, or is not supported", line,
           name);
    }
    body.push_back(std::move(statement));
  }

  void parse_if(Statement& statement) {
    statement.kind = Kind::kIf;
    statement.expression = parse_tuple(false);
    begin_body();
    statement.body = parse_body({"elif", "else", "endif"});
    int branches = 1;
    Statement* last = &statement;  // an "elif" is an "if" in the "else" of the one before
    while (at_name("elif")) {
      const int line = next().line;
      Statement branch{.kind = Kind::kIf, .line = line, .expression = parse_tuple(false)};
      begin_body();
      branch.body = parse_body({"elif", "else", "endif"});
      if (++branches > kMaxBranches) error(fmt::format("more than {} branches", kMaxBranches));
      last->else_body.push_back(std::move(branch));
      last = &last->else_body.back();
    }
    if (skip_name("else")) {
      begin_body();
      last->else_body = parse_body({"endif"});
    }
    next();
    expect(Token::Type::kBlockEnd);
  }

  void parse_for(Statement& statement) {
    statement.kind = Kind::kFor;
    statement.target = parse_target(false);
    if (has_name(*statement.target, "loop")) error("cannot assign to 'loop' in a loop");
    if (!skip_name("in")) error(fmt::format("expected 'in', found '{}'", current().text));
    statement.expression = parse_tuple(false, "recursive");
    if (skip_name("if")) statement.condition = parse_expression();
    if (at_name("recursive")) error("recursive loops are not supported");
    begin_body();
    ++loops_;
    statement.body = parse_body({"else", "endfor"});
    --loops_;
    if (skip_name("else")) {
      begin_body();
      statement.else_body = parse_body({"endfor"});
    }
    next();
    expect(Token::Type::kBlockEnd);
  }

  static bool has_name(const Expression& target, std::string_view name) {
    if (target.kind == Expression::Kind::kName) return target.text == name;
    return std::any_of(target.operands.begin(), target.operands.end(),
                       [&](const ExpressionPtr& part) { return has_name(*part, name); });
  }

  void parse_set(Statement& statement) {
    statement.target = parse_target(true);
    if (skip_operator("=")) {
      statement.kind = Kind::kSet;
      statement.expression = parse_tuple();
      return expect(Token::Type::kBlockEnd);
    }
    statement.kind = Kind::kSetBlock;
    if (skip_operator("|")) statement.expression = parse_block_filters();
    statement.body = parse_block("endset");
  }

  std::vector<Parameter> parse_parameters() {
    std::vector<Parameter> parameters;
    expect_operator("(");
    while (!at_operator(")")) {
      if (!parameters.empty()) expect_operator(",");
      Parameter parameter{expect_name(), nullptr};
      if (skip_operator("="))
        parameter.default_value = parse_expression();
      else if (!parameters.empty() && parameters.back().default_value)
        error("a parameter without a default behind one with a default");
      parameters.push_back(std::move(parameter));
    }
    expect_operator(")");
    return parameters;
  }

  // A macro's or a call block's body. It is no part of a loop around it.
  void parse_macro_body(Statement& statement, std::string_view end) {
    const bool varargs = std::exchange(seen_varargs_, false);
    const bool kwargs = std::exchange(seen_kwargs_, false);
    const int loops = std::exchange(loops_, 0);
    statement.body = parse_block(end);
    statement.uses_varargs = std::exchange(seen_varargs_, varargs);
    statement.uses_kwargs = std::exchange(seen_kwargs_, kwargs);
    loops_ = loops;
  }

  void parse_macro(Statement& statement) {
    statement.kind = Kind::kMacro;
    statement.text = expect_name();
    statement.parameters = parse_parameters();
    parse_macro_body(statement, "endmacro");
  }

  void parse_call_block(Statement& statement) {
    statement.kind = Kind::kCallBlock;
    statement.text = "caller";
    if (at_operator("(")) statement.parameters = parse_parameters();
    statement.expression = parse_expression();
    if (statement.expression->kind != Expression::Kind::kCall) error("expected a call");
    parse_macro_body(statement, "endcall");
  }

  void parse_with(Statement& statement) {
    statement.kind = Kind::kWith;
    while (current().type != Token::Type::kBlockEnd) {
      if (!statement.assignments.empty()) expect_operator(",");
      ExpressionPtr target = parse_target_one();
      expect_operator("=");
      statement.assignments.emplace_back(std::move(target), parse_expression());
    }
    statement.body = parse_block("endwith");
  }

  ExpressionPtr parse_target_one() {
    const int line = current().line;
    return make(Expression::Kind::kName, line, {}, expect_name());
  }

  static constexpr int kMaxBranches = 100;  // of one "if"
  int loops_ = 0;                           // that the parser is inside of
};

}  // namespace

Body parse(std::string_view source) { return Parser(tokenize(source)).parse_template(); }

}  // namespace lockstep::jinja
