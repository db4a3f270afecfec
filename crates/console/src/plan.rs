//! A query laid beside the tables: which rows it wants, what of them, in which order. All types are known here, so that a client can ask
//! for them before anything is run.

mod functions;

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DateTimeField, Expr, GroupByExpr, Ident, LimitClause, ObjectName,
    OrderByKind, OrderBySort, Query, Select, SelectItem, SetExpr, TableFactor, UnaryOperator,
    Value as Literal,
};

use crate::term::{Arithmetic, Comparison, Term};
use crate::{Kind, Refusal, Table, Value, catalog};

/// A query that can be run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// `None`: of one row without columns.
    pub table: Option<&'static Table>,
    /// What comes out: name, type, and what it is.
    pub outputs: Vec<(String, Kind, Term)>,
    pub filter: Option<Term>,
    /// Where there are some, all rows together are one.
    pub aggregates: Vec<Aggregate>,
    pub order: Vec<Order>,
    pub limit: Option<Term>,
    pub offset: Option<Term>,
    /// The types of its parameters.
    pub parameters: Vec<Kind>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Aggregate {
    pub function: Fold,
    /// `None`: of the rows themselves.
    pub of: Option<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Count,
    Sum,
    Min,
    Max,
    Average,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    pub by: Term,
    pub descends: bool,
    pub nulls_first: bool,
}

/// What a query is laid beside.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub tables: &'static [Table],
    pub version: String,
    pub user: String,
    pub database: String,
    pub now: std::time::SystemTime,
}

/// Lays a query beside the tables. `told`: the types of parameters that the client has told, as far as it has.
pub(crate) fn plan(query: &Query, around: &Surroundings, told: &[Option<Kind>]) -> Result<Plan, Refusal> {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    let extras = [
        ("WITH", with.is_some()),
        ("FETCH", fetch.is_some()),
        ("FOR UPDATE", !locks.is_empty() || for_clause.is_some()),
        (
            "what stands at the end",
            settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty(),
        ),
    ];
    refuse(&extras)?;
    let SetExpr::Select(select) = &**body else { return Err(Refusal::unsupported("more than one SELECT")) };
    let mut planner =
        Planner { around, table: None, alias: None, parameters: told.to_vec(), aggregates: Vec::new() };
    planner.table_of(select)?;
    let filter = select.selection.as_ref().map(|filter| planner.boolean(filter, "WHERE")).transpose()?;
    planner.forbid_aggregates("WHERE")?;
    let mut outputs = Vec::new();
    for item in &select.projection {
        planner.outputs(item, &mut outputs)?;
    }
    let aggregated = !planner.aggregates.is_empty();
    if aggregated && outputs.iter().any(|(_, _, term)| term.has_column()) {
        return Err(Refusal::unsupported("GROUP BY: a column beside what is counted of all rows"));
    }
    let order = match order_by.as_ref().map(|order| &order.kind) {
        None => Vec::new(),
        Some(OrderByKind::All(_)) => return Err(Refusal::unsupported("ORDER BY ALL")),
        Some(OrderByKind::Expressions(by)) => {
            let order = by.iter().map(|by| {
                let descends = match &by.options.sort {
                    None | Some(OrderBySort::Asc) => false,
                    Some(OrderBySort::Desc) => true,
                    Some(_) => return Err(Refusal::unsupported("ORDER BY … USING")),
                };
                let nulls_first = by.options.nulls_first.unwrap_or(descends);
                Ok(Order { by: planner.order_by(&by.expr, &outputs)?, descends, nulls_first })
            });
            order.collect::<Result<_, Refusal>>()?
        }
    };
    let (limit, offset) = match limit_clause {
        None => (None, None),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
            let limit = limit.as_ref().map(|limit| planner.count(limit)).transpose()?;
            (limit, offset.as_ref().map(|offset| planner.count(&offset.value)).transpose()?)
        }
        Some(_) => return Err(Refusal::unsupported("this form of LIMIT")),
    };
    let parameters = planner.parameters.iter().map(|kind| kind.unwrap_or(Kind::Text)).collect();
    Ok(Plan {
        table: planner.table,
        outputs,
        filter,
        aggregates: planner.aggregates,
        order,
        limit,
        offset,
        parameters,
    })
}

fn refuse(extras: &[(&str, bool)]) -> Result<(), Refusal> {
    match extras.iter().find(|(_, is_there)| *is_there) {
        Some((what, _)) => Err(Refusal::unsupported(what)),
        None => Ok(()),
    }
}

struct Planner<'a> {
    around: &'a Surroundings,
    table: Option<&'static Table>,
    alias: Option<String>,
    /// Of parameters that were met or told: their types, as far as they are known.
    parameters: Vec<Option<Kind>>,
    aggregates: Vec<Aggregate>,
}

/// A term and its type; of a text in quotes, of a parameter and of NULL it is not known until it meets something.
struct Typed {
    term: Term,
    kind: Option<Kind>,
}

impl Typed {
    fn new(kind: Kind, term: Term) -> Self {
        Typed { term, kind: Some(kind) }
    }
}

impl Planner<'_> {
    fn table_of(&mut self, select: &Select) -> Result<(), Refusal> {
        refuse(&[
            ("DISTINCT", select.distinct.is_some()),
            ("INTO", select.into.is_some()),
            ("GROUP BY", !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty())),
            ("HAVING", select.having.is_some()),
            ("WINDOW", !select.named_window.is_empty()),
        ])?;
        let [from] = &select.from[..] else {
            return if select.from.is_empty() { Ok(()) } else { Err(Refusal::unsupported("a join")) };
        };
        let TableFactor::Table { name, alias, args: None, .. } = &from.relation else {
            return Err(Refusal::unsupported("a query in FROM"));
        };
        refuse(&[("a join", !from.joins.is_empty())])?;
        self.table = Some(self.table_named(name)?);
        self.alias = alias.as_ref().map(|alias| folded(&alias.name));
        Ok(())
    }

    fn table_named(&self, name: &ObjectName) -> Result<&'static Table, Refusal> {
        let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
        let found = match &parts[..] {
            [name] => catalog::table(self.around.tables, name),
            [schema, name] if schema == "public" => catalog::table(self.around.tables, name),
            [schema, name] => catalog::of_schema(schema, name),
            _ => None,
        };
        found.ok_or_else(|| {
            Refusal::new("42P01", format!("relation \"{name}\" does not exist"))
                .hint("SHOW HELP lists the tables.")
        })
    }

    fn outputs(&mut self, item: &SelectItem, out: &mut Vec<(String, Kind, Term)>) -> Result<(), Refusal> {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = match expr {
                    Expr::Identifier(name) => folded(name),
                    Expr::CompoundIdentifier(names) => names.last().map(folded).unwrap_or_default(),
                    Expr::Function(function) => {
                        function.name.0.last().map(ToString::to_string).unwrap_or_default()
                    }
                    Expr::Cast { expr, .. } if matches!(**expr, Expr::Identifier(_)) => expr.to_string(),
                    _ => "?column?".to_owned(),
                };
                self.output(expr, name.to_ascii_lowercase(), out)
            }
            SelectItem::ExprWithAlias { expr, alias } => self.output(expr, folded(alias), out),
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                let Some(table) = self.table else {
                    return Err(Refusal::syntax("SELECT * without FROM has no columns"));
                };
                let columns = table.columns.iter().enumerate();
                out.extend(
                    columns.map(|(index, column)| (column.name.to_owned(), column.kind, Term::Column(index))),
                );
                Ok(())
            }
            SelectItem::ExprWithAliases { .. } => Err(Refusal::unsupported("more than one name")),
        }
    }

    fn output(
        &mut self,
        expr: &Expr,
        name: String,
        out: &mut Vec<(String, Kind, Term)>,
    ) -> Result<(), Refusal> {
        let Typed { term, kind } = self.term(expr)?;
        let kind = kind.unwrap_or(Kind::Text);
        out.push((name, kind, self.typed(Typed { term, kind: Some(kind) })));
        Ok(())
    }

    /// By a column of what comes out, by its number, or by anything else.
    fn order_by(&mut self, expr: &Expr, outputs: &[(String, Kind, Term)]) -> Result<Term, Refusal> {
        if let Expr::Identifier(name) = expr
            && let Some((_, _, term)) = outputs.iter().find(|(output, ..)| *output == folded(name))
        {
            return Ok(term.clone());
        }
        if let Expr::Value(value) = expr
            && let Literal::Number(number, _) = &value.value
        {
            let place = number.parse::<usize>().ok().and_then(|number| outputs.get(number.checked_sub(1)?));
            let none = || Refusal::new("42P10", format!("ORDER BY position {number} is not in select list"));
            return place.map(|(_, _, term)| term.clone()).ok_or_else(none);
        }
        let before = self.aggregates.len();
        let typed = self.term(expr)?;
        if self.aggregates.len() > before {
            return Err(Refusal::unsupported("ORDER BY of what is counted"));
        }
        Ok(self.typed(typed))
    }

    /// A number of rows.
    fn count(&mut self, expr: &Expr) -> Result<Term, Refusal> {
        let typed = self.term(expr)?;
        let term = self.as_kind(typed, Kind::Int, "LIMIT")?;
        if term.has_column() {
            return Err(Refusal::new("42P10", "argument of LIMIT must not contain columns"));
        }
        Ok(term)
    }

    fn forbid_aggregates(&self, place: &str) -> Result<(), Refusal> {
        match self.aggregates.is_empty() {
            true => Ok(()),
            false => Err(Refusal::new("42803", format!("aggregate functions are not allowed in {place}"))),
        }
    }

    fn boolean(&mut self, expr: &Expr, place: &str) -> Result<Term, Refusal> {
        let typed = self.term(expr)?;
        self.as_kind(typed, Kind::Bool, place)
    }

    /// The term as this type, where it is that or may become it.
    fn as_kind(&mut self, typed: Typed, kind: Kind, place: &str) -> Result<Term, Refusal> {
        match typed.kind {
            Some(is) if is == kind => Ok(typed.term),
            Some(Kind::Int) if kind == Kind::Float => Ok(typed.term),
            Some(is) => {
                Err(Refusal::mismatch(format!("{place} wants {}, and this is {}", kind.name(), is.name())))
            }
            None => self.become_kind(typed.term, kind),
        }
    }

    /// A term whose type was not known, as this type.
    fn become_kind(&mut self, term: Term, kind: Kind) -> Result<Term, Refusal> {
        match term {
            Term::Parameter(index, _) => {
                if let Some(known) = self.parameters.get_mut(index) {
                    known.get_or_insert(kind);
                }
                let told = self.parameters.get(index).copied().flatten().unwrap_or(kind);
                Ok(if told == kind || told.is_number() && kind.is_number() {
                    Term::Parameter(index, told)
                } else {
                    Term::Cast(Box::new(Term::Parameter(index, told)), kind)
                })
            }
            Term::Constant(value) => {
                let shown = value.to_string();
                let wrong = || Refusal::new("22P02", format!("{shown:?} is no {}", kind.name()));
                // A number is compared with numbers of both types.
                let number = |value: Value| match value.clone().cast(kind) {
                    None if kind == Kind::Int => value.cast(Kind::Float),
                    cast => cast,
                };
                Ok(Term::Constant(number(value).ok_or_else(wrong)?))
            }
            other => Ok(other),
        }
    }

    /// With a type, whatever it is.
    fn typed(&mut self, typed: Typed) -> Term {
        let kind = typed.kind.unwrap_or(Kind::Text);
        if let Term::Parameter(index, _) = typed.term {
            if let Some(known) = self.parameters.get_mut(index) {
                known.get_or_insert(kind);
            }
            return Term::Parameter(index, self.parameters.get(index).copied().flatten().unwrap_or(kind));
        }
        typed.term
    }

    /// Two terms that are compared, or stand in one list.
    fn alike(&mut self, one: Typed, other: Typed) -> Result<(Term, Term), Refusal> {
        let kind = match (one.kind, other.kind) {
            (Some(one), Some(other)) if one == other || one.is_number() && other.is_number() => one,
            (Some(one), Some(other)) => {
                let message = format!("operator does not exist: {} and {}", one.name(), other.name());
                return Err(Refusal::new("42883", message).hint("Cast one of them: column::text."));
            }
            (Some(kind), None) | (None, Some(kind)) => kind,
            (None, None) => Kind::Text,
        };
        let mut fit = |typed: Typed| match typed.kind {
            Some(_) => Ok(typed.term),
            None => self.become_kind(typed.term, kind),
        };
        Ok((fit(one)?, fit(other)?))
    }

    fn term(&mut self, expr: &Expr) -> Result<Typed, Refusal> {
        let boolean = |term| Ok(Typed::new(Kind::Bool, term));
        match expr {
            Expr::Nested(expr) => self.term(expr),
            Expr::Identifier(name) => self.identifier(name),
            Expr::CompoundIdentifier(names) => self.qualified(names),
            Expr::Value(value) => self.literal(&value.value),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => {
                let kind = kind_of(data_type)?;
                let typed = self.term(expr)?;
                let term = match typed.kind {
                    None => self.become_kind(typed.term, kind)?,
                    Some(_) => Term::Cast(Box::new(typed.term), kind),
                };
                Ok(Typed::new(kind, term))
            }
            Expr::IsNull(expr) => {
                let typed = self.term(expr)?;
                boolean(Term::IsNull(Box::new(self.typed(typed))))
            }
            Expr::IsNotNull(expr) => {
                let typed = self.term(expr)?;
                boolean(Term::Not(Box::new(Term::IsNull(Box::new(self.typed(typed))))))
            }
            Expr::IsTrue(expr) => boolean(self.is(expr, true)?),
            Expr::IsFalse(expr) => boolean(self.is(expr, false)?),
            Expr::IsNotTrue(expr) => boolean(Term::Not(Box::new(self.is(expr, true)?))),
            Expr::IsNotFalse(expr) => boolean(Term::Not(Box::new(self.is(expr, false)?))),
            Expr::InList { expr, list, negated } => {
                let mut terms = Vec::new();
                let mut one = None;
                for item in list {
                    let (typed, item) = (self.term(expr)?, self.term(item)?);
                    let (term, item) = self.alike(typed, item)?;
                    (one, _) = (Some(term), terms.push(item));
                }
                let one = one.ok_or_else(|| Refusal::syntax("IN is followed by a list"))?;
                boolean(negate(Term::In(Box::new(one), terms), *negated))
            }
            Expr::Between { expr, negated, low, high } => {
                let mut bound = |comparison, bound: &Expr| {
                    let (typed, bound) = (self.term(expr)?, self.term(bound)?);
                    let (one, other) = self.alike(typed, bound)?;
                    Ok::<_, Refusal>(Box::new(Term::Compare(comparison, Box::new(one), Box::new(other))))
                };
                let (low, high) =
                    (bound(Comparison::GreaterOrEqual, low)?, bound(Comparison::LessOrEqual, high)?);
                boolean(negate(Term::And(low, high), *negated))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true)
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                boolean(Term::Not(Box::new(self.boolean(expr, "NOT")?)))
            }
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.term(expr),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                let typed = self.term(expr)?;
                let kind = typed.kind.filter(|kind| kind.is_number()).unwrap_or(Kind::Int);
                let term = self.as_kind(typed, kind, "-")?;
                let zero = Term::Constant(Value::Int(0));
                Ok(Typed::new(kind, Term::Arithmetic(Arithmetic::Minus, Box::new(zero), Box::new(term))))
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::Extract { field: DateTimeField::Epoch, expr, .. } => {
                let typed = self.term(expr)?;
                let of = self.as_kind(typed, Kind::Time, "extract(epoch)")?;
                Ok(Typed::new(Kind::Float, Term::Epoch(Box::new(of))))
            }
            Expr::Function(function) => self.function(function),
            other => Err(Refusal::unsupported(other)),
        }
    }

    /// Whether it is this, and known to be.
    fn is(&mut self, expr: &Expr, wanted: bool) -> Result<Term, Refusal> {
        let told = self.boolean(expr, "IS")?;
        let is_wanted =
            Term::Compare(Comparison::Equal, Box::new(told), Box::new(Term::Constant(wanted.into())));
        Ok(Term::Coalesce(vec![is_wanted, Term::Constant(false.into())]))
    }

    fn like(
        &mut self,
        text: &Expr,
        pattern: &Expr,
        negated: bool,
        ignores_case: bool,
    ) -> Result<Typed, Refusal> {
        let (text, pattern) = (self.term(text)?, self.term(pattern)?);
        let text = Box::new(self.as_kind(text, Kind::Text, "LIKE")?);
        let pattern = Box::new(self.as_kind(pattern, Kind::Text, "LIKE")?);
        Ok(Typed::new(Kind::Bool, negate(Term::Like { text, pattern, ignores_case }, negated)))
    }

    fn identifier(&mut self, name: &Ident) -> Result<Typed, Refusal> {
        let column = self.table.and_then(|table| {
            let name = folded(name);
            table.columns.iter().enumerate().find(|(_, column)| column.name == name)
        });
        if let Some((index, column)) = column {
            return Ok(Typed::new(column.kind, Term::Column(index)));
        }
        let constant = |text: &str| Ok(Typed::new(Kind::Text, Term::Constant(text.into())));
        match folded(name).as_str() {
            "current_user" | "session_user" | "user" if name.quote_style.is_none() => {
                constant(&self.around.user)
            }
            "current_catalog" if name.quote_style.is_none() => constant(&self.around.database),
            other => {
                let refusal = Refusal::new("42703", format!("column \"{other}\" does not exist"));
                let known = self
                    .table
                    .map(|table| table.columns.iter().map(|column| column.name).collect::<Vec<_>>());
                Err(match known {
                    Some(known) => refusal.hint(format!("There are {}.", known.join(", "))),
                    None => refusal,
                })
            }
        }
    }

    fn qualified(&mut self, names: &[Ident]) -> Result<Typed, Refusal> {
        let (Some(name), Some(of)) = (names.last(), names.len().checked_sub(2).and_then(|at| names.get(at)))
        else {
            return Err(Refusal::syntax("a name is missing"));
        };
        let known = self.alias.clone().or_else(|| self.table.map(|table| table.name.to_owned()));
        if known.as_deref() != Some(&folded(of)) {
            let message = format!("missing FROM-clause entry for table \"{}\"", folded(of));
            return Err(Refusal::new("42P01", message));
        }
        self.identifier(name)
    }

    fn literal(&mut self, literal: &Literal) -> Result<Typed, Refusal> {
        Ok(match literal {
            Literal::Number(number, _) => match number.parse::<i64>() {
                Ok(value) => Typed::new(Kind::Int, Term::Constant(Value::Int(value))),
                Err(_) => {
                    let wrong =
                        |_| Refusal::new("22003", format!("{number} is no number that there is here"));
                    Typed::new(Kind::Float, Term::Constant(Value::Float(number.parse().map_err(wrong)?)))
                }
            },
            Literal::Boolean(value) => Typed::new(Kind::Bool, Term::Constant((*value).into())),
            Literal::Null => Typed { term: Term::Constant(Value::Null), kind: None },
            Literal::SingleQuotedString(text) | Literal::EscapedStringLiteral(text) => {
                Typed { term: Term::Constant(Value::Text(text.clone())), kind: None }
            }
            Literal::Placeholder(name) => {
                let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
                let index = number.filter(|number| (1..=1_000).contains(number)).map(|number| number - 1);
                let index =
                    index.ok_or_else(|| Refusal::new("42P02", format!("there is no parameter {name}")))?;
                if self.parameters.len() <= index {
                    self.parameters.resize(index + 1, None);
                }
                let kind = self.parameters[index];
                Typed { term: Term::Parameter(index, kind.unwrap_or(Kind::Text)), kind }
            }
            other => return Err(Refusal::unsupported(other)),
        })
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Typed, Refusal> {
        let comparison = match op {
            BinaryOperator::And => {
                let (one, other) = (self.boolean(left, "AND")?, self.boolean(right, "AND")?);
                return Ok(Typed::new(Kind::Bool, Term::And(Box::new(one), Box::new(other))));
            }
            BinaryOperator::Or => {
                let (one, other) = (self.boolean(left, "OR")?, self.boolean(right, "OR")?);
                return Ok(Typed::new(Kind::Bool, Term::Or(Box::new(one), Box::new(other))));
            }
            BinaryOperator::StringConcat => {
                let (one, other) = (self.term(left)?, self.term(right)?);
                let (one, other) = (self.typed(one), self.typed(other));
                return Ok(Typed::new(Kind::Text, Term::Concatenate(Box::new(one), Box::new(other))));
            }
            BinaryOperator::Plus => return self.arithmetic(left, Arithmetic::Plus, right),
            BinaryOperator::Minus => return self.arithmetic(left, Arithmetic::Minus, right),
            BinaryOperator::Multiply => return self.arithmetic(left, Arithmetic::Times, right),
            BinaryOperator::Divide => return self.arithmetic(left, Arithmetic::By, right),
            BinaryOperator::Modulo => return self.arithmetic(left, Arithmetic::Modulo, right),
            BinaryOperator::Eq => Comparison::Equal,
            BinaryOperator::NotEq => Comparison::NotEqual,
            BinaryOperator::Lt => Comparison::Less,
            BinaryOperator::LtEq => Comparison::LessOrEqual,
            BinaryOperator::Gt => Comparison::Greater,
            BinaryOperator::GtEq => Comparison::GreaterOrEqual,
            other => return Err(Refusal::unsupported(format!("the operator {other}"))),
        };
        let (one, other) = (self.term(left)?, self.term(right)?);
        let (one, other) = self.alike(one, other)?;
        Ok(Typed::new(Kind::Bool, Term::Compare(comparison, Box::new(one), Box::new(other))))
    }

    fn arithmetic(&mut self, left: &Expr, operation: Arithmetic, right: &Expr) -> Result<Typed, Refusal> {
        let (one, other) = (self.term(left)?, self.term(right)?);
        let is_float = [one.kind, other.kind].contains(&Some(Kind::Float));
        let kind = if is_float { Kind::Float } else { Kind::Int };
        let (one, other) = (self.as_kind(one, kind, "arithmetic")?, self.as_kind(other, kind, "arithmetic")?);
        Ok(Typed::new(kind, Term::Arithmetic(operation, Box::new(one), Box::new(other))))
    }
}

fn negate(term: Term, negated: bool) -> Term {
    if negated { Term::Not(Box::new(term)) } else { term }
}

fn kind_of(data_type: &DataType) -> Result<Kind, Refusal> {
    let name = data_type.to_string().to_ascii_lowercase();
    Ok(match name.as_str() {
        "text" | "name" | "character varying" | "varchar" | "regclass" | "regtype" => Kind::Text,
        "smallint" | "int" | "integer" | "bigint" | "int2" | "int4" | "int8" | "oid" => Kind::Int,
        "real" | "double precision" | "numeric" | "float" | "float4" | "float8" | "decimal" => Kind::Float,
        "boolean" | "bool" => Kind::Bool,
        "timestamptz" | "timestamp with time zone" => Kind::Time,
        _ => return Err(Refusal::new("42704", format!("type \"{name}\" does not exist"))),
    })
}

/// A name without quotes is in lower case.
fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}
