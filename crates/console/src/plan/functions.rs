//! Functions: a few that say where one is, and those that fold all rows into one.

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value as Literal};

use super::{Aggregate, Fold, Planner, Typed};
use crate::term::Term;
use crate::{Kind, Refusal, Value, catalog};

impl Planner<'_> {
    pub(super) fn function(&mut self, function: &Function) -> Result<Typed, Refusal> {
        let name = function.name.0.last().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase();
        if function.filter.is_some() || function.over.is_some() || !function.within_group.is_empty() {
            return Err(Refusal::unsupported(format!("this form of {name}()")));
        }
        let arguments = arguments(function)?;
        let text = |text: &str| Ok(Typed::new(Kind::Text, Term::Constant(text.into())));
        match (name.as_str(), &arguments[..]) {
            ("count", [Argument::Rows]) => Ok(self.aggregate(Fold::Count, Kind::Int, None)),
            ("count", [Argument::Expr(of)]) => {
                let typed = self.term(of)?;
                let of = self.typed(typed);
                Ok(self.aggregate(Fold::Count, Kind::Int, Some(of)))
            }
            ("sum" | "avg", [Argument::Expr(of)]) => {
                let typed = self.term(of)?;
                let kind = typed.kind.filter(|kind| kind.is_number());
                let kind = kind.ok_or_else(|| Refusal::mismatch(format!("{name}() is of numbers")))?;
                let (fold, kind) =
                    if name == "sum" { (Fold::Sum, kind) } else { (Fold::Average, Kind::Float) };
                Ok(self.aggregate(fold, kind, Some(typed.term)))
            }
            ("min" | "max", [Argument::Expr(of)]) => {
                let typed = self.term(of)?;
                let kind = typed.kind.unwrap_or(Kind::Text);
                let of = self.typed(typed);
                let fold = if name == "min" { Fold::Min } else { Fold::Max };
                Ok(self.aggregate(fold, kind, Some(of)))
            }
            ("now" | "current_timestamp" | "transaction_timestamp" | "clock_timestamp", []) => {
                Ok(Typed::new(Kind::Time, Term::Constant(Value::Time(self.around.now))))
            }
            ("version", []) => text(&self.around.version),
            ("current_database" | "current_catalog", []) => text(&self.around.database),
            ("current_schema", []) => text("public"),
            ("current_user" | "session_user" | "user", []) => text(&self.around.user),
            ("pg_is_in_recovery", []) => Ok(Typed::new(Kind::Bool, Term::Constant(false.into()))),
            ("current_setting", [Argument::Expr(Expr::Value(value)), ..]) => match &value.value {
                Literal::SingleQuotedString(name) => match catalog::setting(name) {
                    Some(value) => text(value),
                    None => {
                        Err(Refusal::new("42704", format!("unrecognized configuration parameter \"{name}\"")))
                    }
                },
                _ => Err(Refusal::unsupported("current_setting() of anything but a name")),
            },
            ("coalesce", [Argument::Expr(first), rest @ ..]) => {
                let mut all = self.term(first)?;
                let mut terms = Vec::new();
                for argument in rest {
                    let Argument::Expr(next) = argument else { return Err(Refusal::syntax("coalesce(*)")) };
                    let next = self.term(next)?;
                    let kind = all.kind.or(next.kind);
                    let (one, other) = self.alike(all, next)?;
                    terms.push(one);
                    all = Typed { term: other, kind };
                }
                let kind = all.kind.unwrap_or(Kind::Text);
                terms.push(self.typed(all));
                Ok(Typed::new(kind, Term::Coalesce(terms)))
            }
            _ => Err(Refusal::new(
                "42883",
                format!("function {name}() with {} arguments does not exist", arguments.len()),
            )
            .hint("There are count, sum, min, max, avg, now, version, coalesce.")),
        }
    }

    fn aggregate(&mut self, function: Fold, kind: Kind, of: Option<Term>) -> Typed {
        self.aggregates.push(Aggregate { function, of });
        Typed::new(kind, Term::Aggregate(self.aggregates.len() - 1))
    }
}

enum Argument<'a> {
    Rows,
    Expr(&'a Expr),
}

fn arguments(function: &Function) -> Result<Vec<Argument<'_>>, Refusal> {
    let list = match &function.args {
        FunctionArguments::None => return Ok(Vec::new()),
        FunctionArguments::List(list) if list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
            list
        }
        _ => return Err(Refusal::unsupported(format!("this form of {}()", function.name))),
    };
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Ok(Argument::Rows),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(Argument::Expr(expr)),
        other => Err(Refusal::unsupported(other)),
    });
    arguments.collect()
}
