// The parser's lower half: expressions.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/ast.h"
#include "jinja/lexer.h"

namespace lockstep::jinja {

// Jinja2's grammar, function by function. Used by one thread.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  // Counts how deeply the parser is inside of itself.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser);
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser& parser_;
  };

  [[noreturn]] void error(const std::string& message) const;
  const Token& current() const { return tokens_[position_]; }
  const Token& look() const;
  Token next();
  bool at_operator(std::string_view text) const;
  bool at_name(std::string_view text) const;
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  std::string expect_name();

  ExpressionPtr parse_expression(bool with_condition = true);
  // Expressions with commas between them, or just one. `end_name`: ends it besides the tag's end.
  ExpressionPtr parse_tuple(bool with_condition = true, std::string_view end_name = {},
                            bool in_parentheses = false);
  // A name, names with commas between them, or ns.attribute where that is allowed.
  ExpressionPtr parse_target(bool with_namespace);
  ExpressionPtr parse_filters(ExpressionPtr operand);
  // One filter and those behind it, on what a block makes.
  ExpressionPtr parse_block_filters();
  CallArguments parse_call_arguments();
  ExpressionPtr make(Expression::Kind kind, int line, std::vector<ExpressionPtr> operands = {},
                     std::string text = {}) const;

  bool seen_varargs_ = false;  // as names, since these were reset
  bool seen_kwargs_ = false;

 private:
  ExpressionPtr checked(Expression expression) const;
  ExpressionPtr parse_condition();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_constant(const Token& token) const;
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr operand);
  ExpressionPtr parse_filter_expression(ExpressionPtr operand);
  ExpressionPtr parse_subscript(ExpressionPtr operand);
  ExpressionPtr parse_subscribed();
  ExpressionPtr parse_call(ExpressionPtr operand);
  ExpressionPtr parse_filter(ExpressionPtr operand);
  ExpressionPtr parse_test(ExpressionPtr operand);
  ExpressionPtr parse_target_name(bool with_namespace);
  bool at_tuple_end(std::string_view end_name) const;

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int nesting_ = 0;
};

}  // namespace lockstep::jinja
