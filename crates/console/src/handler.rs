//! What the protocol's library asks for: who may come in, what a statement is, what it answers.

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, FixedOffset, Utc};
use futures_util::{Sink, stream};
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::{ScramAuth, ScramSecret};
use pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler, finish_authentication,
    protocol_negotiation, save_startup_parameters_to_metadata,
};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{
    ClientInfo, ClientPortalStore, ErrorHandler, METADATA_DATABASE, METADATA_USER, PgWireServerHandlers,
    PidSecretKeyGenerator, RandomPidSecretKeyGenerator, Type,
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::types::format::FormatOptions;

use crate::plan::{Plan, Surroundings, plan};
use crate::statement::{Statement, read};
use crate::{Command, Kind, Model, Refusal, Table, Users, Value, catalog, run};

/// Iterations of who does not exist: those of PostgreSQL.
const ITERATIONS: usize = 4096;
/// Bytes of their salt.
const SALT_BYTES: usize = 16;

/// Everything that all connections share.
pub(crate) struct Console<M> {
    pub model: Arc<M>,
    /// `None`: whoever connects is an administrator.
    pub users: Option<Users>,
    pub wants_tls: bool,
    pub pids: RandomPidSecretKeyGenerator,
}

/// A statement that was laid beside the tables.
#[derive(Clone)]
pub(crate) enum Prepared {
    /// What there is to ask for.
    Help,
    Show(&'static Table),
    Setting(String, &'static str),
    Query(Box<Plan>),
    Command(Command),
    Nothing(&'static str),
    ListOfTables,
}

const HELP: [(&str, Kind); 3] = [("command", Kind::Text), ("about", Kind::Text), ("columns", Kind::Text)];
/// The columns of psql's `\d`.
const LIST: [(&str, Kind); 4] =
    [("Schema", Kind::Text), ("Name", Kind::Text), ("Type", Kind::Text), ("Owner", Kind::Text)];
const COMMANDS: [(&str, &str); 5] = [
    (
        "SELECT … FROM a table WHERE … ORDER BY … LIMIT …",
        "the same rows, chosen; count, sum, min, max and avg of all of them",
    ),
    (
        "PAUSE",
        "stop capturing until RESUME, or until the process ends; clients are served with what is durable (administrators)",
    ),
    ("RESUME", "go on capturing (administrators)"),
    ("RELOAD", "read the configuration again, as on SIGHUP (administrators)"),
    ("KILL session", "let a client go; it may come back (administrators)"),
];

impl Prepared {
    fn columns(&self) -> Vec<(String, Kind)> {
        let owned = |columns: &[(&str, Kind)]| {
            columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
        };
        match self {
            Prepared::Help => owned(&HELP),
            Prepared::ListOfTables => owned(&LIST),
            Prepared::Show(table) => {
                table.columns.iter().map(|column| (column.name.to_owned(), column.kind)).collect()
            }
            Prepared::Setting(name, _) => vec![(name.clone(), Kind::Text)],
            Prepared::Query(plan) => {
                plan.outputs.iter().map(|(name, kind, _)| (name.clone(), *kind)).collect()
            }
            Prepared::Command(_) => vec![("result".to_owned(), Kind::Text)],
            Prepared::Nothing(_) => Vec::new(),
        }
    }

    fn fields(&self, format: &Format) -> Vec<FieldInfo> {
        let columns = self.columns().into_iter().enumerate();
        columns
            .map(|(at, (name, kind))| FieldInfo::new(name, None, None, type_of(kind), format.format_for(at)))
            .collect()
    }
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Text => Type::TEXT,
        Kind::Int => Type::INT8,
        Kind::Float => Type::FLOAT8,
        Kind::Bool => Type::BOOL,
        Kind::Time => Type::TIMESTAMPTZ,
    }
}

/// The type that a parameter of a client's type is here; `None`: any.
fn kind_of(told: Option<&Type>) -> Option<Kind> {
    Some(match *told? {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Kind::Int,
        Type::FLOAT4 | Type::FLOAT8 => Kind::Float,
        Type::BOOL => Kind::Bool,
        Type::TIMESTAMPTZ => Kind::Time,
        Type::TEXT | Type::VARCHAR | Type::NAME => Kind::Text,
        _ => return None,
    })
}

fn user_of(client: &(impl ClientInfo + ?Sized)) -> String {
    client.metadata().get(METADATA_USER).cloned().unwrap_or_default()
}

impl<M: Model> Console<M> {
    fn around(&self, client: &(impl ClientInfo + ?Sized)) -> Surroundings {
        Surroundings {
            tables: self.model.tables(),
            version: self.model.version(),
            user: user_of(client),
            database: client
                .metadata()
                .get(METADATA_DATABASE)
                .cloned()
                .unwrap_or_else(|| "waldelta".to_owned()),
            now: self.model.now(),
        }
    }

    fn prepare(
        &self,
        statement: Statement,
        around: &Surroundings,
        told: &[Option<Kind>],
    ) -> Result<Prepared, Refusal> {
        Ok(match statement {
            Statement::Show(name) if name == "help" => Prepared::Help,
            Statement::Show(name) => match (catalog::table(around.tables, &name), catalog::setting(&name)) {
                (Some(table), _) => Prepared::Show(table),
                (None, Some(value)) => Prepared::Setting(name, value),
                (None, None) => {
                    let message = format!("there is no {name:?} to show");
                    return Err(Refusal::new("42704", message).hint("SHOW HELP lists what there is."));
                }
            },
            Statement::Query(query) => Prepared::Query(Box::new(plan(&query, around, told)?)),
            Statement::Command(command) => Prepared::Command(command),
            Statement::Nothing(tag) => Prepared::Nothing(tag),
            Statement::ListOfTables => Prepared::ListOfTables,
        })
    }

    async fn rows(&self, table: &'static Table, database: &str) -> Result<Vec<Vec<Value>>, Refusal> {
        match catalog::rows(table, self.model.tables(), database) {
            Some(rows) => Ok(rows),
            None => self.model.rows(table).await,
        }
    }

    async fn answer(
        &self,
        prepared: &Prepared,
        parameters: &[Value],
        format: &Format,
        around: &Surroundings,
    ) -> PgWireResult<Response> {
        self.require_known(&around.user)?;
        let rows = match prepared {
            Prepared::Nothing(tag) => return Ok(Response::Execution(Tag::new(tag))),
            Prepared::Help => help(around.tables),
            Prepared::ListOfTables => {
                let row = |table: &Table| {
                    vec!["public".into(), table.name.into(), "view".into(), "waldelta".into()]
                };
                around.tables.iter().map(row).collect()
            }
            Prepared::Setting(_, value) => vec![vec![(*value).into()]],
            Prepared::Show(table) => self.rows(table, &around.database).await?,
            Prepared::Query(plan) => {
                let rows = match plan.table {
                    Some(table) => self.rows(table, &around.database).await?,
                    None => vec![Vec::new()],
                };
                run::run(plan, rows, parameters)?
            }
            Prepared::Command(command) => {
                self.require_admin(&around.user)?;
                tracing::info!(user = around.user, ?command, "a command was given on the console");
                vec![vec![self.model.act(command.clone(), &around.user).await?.into()]]
            }
        };
        let fields = Arc::new(prepared.fields(format));
        let mut encoder = DataRowEncoder::new(fields.clone());
        let encoded: Vec<_> = rows
            .iter()
            .map(|row| {
                row.iter()
                    .zip(&*fields)
                    .try_for_each(|(value, field)| encode(&mut encoder, value, field.format()))?;
                Ok(encoder.take_row())
            })
            .collect();
        Ok(Response::Query(QueryResponse::new(fields, stream::iter(encoded))))
    }

    fn require_admin(&self, user: &str) -> Result<(), Refusal> {
        match &self.users {
            Some(users) if !users.get(user).is_some_and(|user| user.is_admin) => {
                Err(Refusal::new("42501", format!("{user:?} may only look")).hint(
                    "Write `admin` behind the verifier in console.users_file, and have the configuration read again.",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Who was let in may have been taken out since.
    fn require_known(&self, user: &str) -> Result<(), Refusal> {
        match &self.users {
            Some(users) if users.get(user).is_none() => {
                Err(Refusal::new("28000", format!("{user:?} is no user of this console any more")))
            }
            _ => Ok(()),
        }
    }
}

fn help(tables: &'static [Table]) -> Vec<Vec<Value>> {
    let of_table = |table: &Table| {
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let show = format!("SHOW {}", table.name.to_ascii_uppercase());
        vec![show.into(), table.about.into(), columns.join(", ").into()]
    };
    let commands =
        COMMANDS.iter().map(|(command, about)| vec![(*command).into(), (*about).into(), Value::Null]);
    tables.iter().map(of_table).chain(commands).collect()
}

fn encode(encoder: &mut DataRowEncoder, value: &Value, format: FieldFormat) -> PgWireResult<()> {
    match value {
        Value::Null => encoder.encode_field(&None::<&str>),
        Value::Text(text) => encoder.encode_field(&text.as_str()),
        Value::Int(value) => encoder.encode_field(value),
        // As PostgreSQL writes it: a whole number without a fraction.
        Value::Float(number) if format == FieldFormat::Text => {
            let text = if number.is_infinite() { "Infinity".to_owned() } else { number.to_string() };
            encoder.encode_field_with_type_and_format(&text, &Type::TEXT, format, &FormatOptions::default())
        }
        Value::Float(value) => encoder.encode_field(value),
        Value::Bool(value) => encoder.encode_field(value),
        Value::Time(value) => encoder.encode_field(&DateTime::<Utc>::from(*value)),
    }
}

/// The value of a parameter, in the type that the client has told, or that it was told.
fn parameter(portal: &Portal<Prepared>, at: usize, wanted: Kind) -> PgWireResult<Value> {
    let told = portal.statement.parameter_types.get(at).and_then(Option::as_ref);
    let told = told.filter(|told| **told != Type::UNKNOWN).cloned().unwrap_or_else(|| type_of(wanted));
    Ok(match told {
        Type::INT2 => portal.parameter::<i16>(at, &told)?.map(|value| Value::Int(value.into())),
        Type::INT4 => portal.parameter::<i32>(at, &told)?.map(|value| Value::Int(value.into())),
        Type::OID => portal.parameter::<u32>(at, &told)?.map(|value| Value::Int(value.into())),
        Type::INT8 => portal.parameter::<i64>(at, &told)?.map(Value::Int),
        Type::FLOAT4 => portal.parameter::<f32>(at, &told)?.map(|value| Value::Float(value.into())),
        Type::FLOAT8 => portal.parameter::<f64>(at, &told)?.map(Value::Float),
        Type::BOOL => portal.parameter::<bool>(at, &told)?.map(Value::Bool),
        Type::TIMESTAMPTZ => {
            portal.parameter::<DateTime<FixedOffset>>(at, &told)?.map(|at| Value::Time(at.into()))
        }
        Type::TEXT | Type::VARCHAR | Type::NAME => {
            portal.parameter::<String>(at, &Type::TEXT)?.map(Value::Text)
        }
        other => {
            let message = format!("a parameter of type {} is not taken", other.name());
            return Err(Refusal::new("0A000", message).hint("Cast it: $1::text.").into());
        }
    }
    .unwrap_or(Value::Null))
}

#[async_trait]
impl<M: Model> SimpleQueryHandler for Console<M> {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let around = self.around(client);
        let statements = read(query)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut responses = Vec::new();
        for statement in statements {
            let prepared = self.prepare(statement, &around, &[])?;
            if matches!(&prepared, Prepared::Query(plan) if !plan.parameters.is_empty()) {
                return Err(Refusal::new("42P02", "there is no parameter $1").into());
            }
            responses.push(self.answer(&prepared, &[], &Format::UnifiedText, &around).await?);
        }
        Ok(responses)
    }
}

/// Shared, as the library has it.
pub(crate) struct Reader<M>(pub Arc<Console<M>>);

#[async_trait]
impl<M: Model> QueryParser for Reader<M> {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = read(sql)?.into_iter();
        let (first, more) = (statements.next(), statements.next());
        if more.is_some() {
            return Err(Refusal::syntax("cannot insert multiple commands into a prepared statement").into());
        }
        let told: Vec<Option<Kind>> = types.iter().map(|told| kind_of(told.as_ref())).collect();
        let around = self.0.around(client);
        Ok(first.map(|statement| self.0.prepare(statement, &around, &told)).transpose()?)
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(match prepared {
            Prepared::Query(plan) => plan.parameters.iter().map(|kind| type_of(*kind)).collect(),
            _ => Vec::new(),
        })
    }

    fn get_result_schema(
        &self,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        Ok(prepared.fields(format.unwrap_or(&Format::UnifiedBinary)))
    }
}

#[async_trait]
impl<M: Model> ExtendedQueryHandler for Reader<M> {
    type Statement = Prepared;
    type QueryParser = Reader<M>;

    fn query_parser(&self) -> Arc<Self::QueryParser> {
        Arc::new(Reader(self.0.clone()))
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let kinds = match prepared {
            Prepared::Query(plan) => &plan.parameters[..],
            _ => &[],
        };
        let parameters = kinds.iter().enumerate().map(|(at, kind)| parameter(portal, at, *kind));
        let parameters = parameters.collect::<PgWireResult<Vec<Value>>>()?;
        let around = self.0.around(client);
        self.0.answer(prepared, &parameters, &portal.result_column_format, &around).await
    }
}

/// Who comes in.
pub(crate) struct Door<M> {
    console: Arc<Console<M>>,
    parameters: Arc<DefaultServerParameterProvider>,
    scram: Option<SASLAuthStartupHandler<DefaultServerParameterProvider>>,
}

impl<M: Model> Door<M> {
    pub(crate) fn new(console: Arc<Console<M>>) -> Self {
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.server_version = format!("{} ({})", catalog::SERVER_VERSION, console.model.version());
        parameters.is_superuser = false;
        parameters.default_transaction_read_only = true;
        let parameters = Arc::new(parameters);
        let scram = console.users.clone().map(|users| {
            let known = Known { users, secret: RandomState::new() };
            SASLAuthStartupHandler::new(parameters.clone()).with_scram(ScramAuth::new(Arc::new(known)))
        });
        Door { console, parameters, scram }
    }
}

#[async_trait]
impl<M: Model> StartupHandler for Door<M> {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if self.console.wants_tls && !client.is_secure() {
            let message = "this console is reached by TLS alone: sslmode=require";
            let info = ErrorInfo::new("FATAL".to_owned(), "28000".to_owned(), message.to_owned());
            return Err(PgWireError::UserError(Box::new(info)));
        }
        if let Some(scram) = &self.scram {
            return scram.on_startup(client, message).await;
        }
        if let PgWireFrontendMessage::Startup(startup) = &message {
            protocol_negotiation(client, startup).await?;
            save_startup_parameters_to_metadata(client, startup);
            let (pid, secret_key) = self.console.pids.generate(client);
            client.set_pid_and_secret_key(pid, secret_key);
            finish_authentication(client, &self.parameters).await?;
        }
        Ok(())
    }
}

/// The users, and an answer for everybody else that is none's: who exists is not told.
struct Known {
    users: Users,
    /// Salts of those that do not exist are the same each time they are asked for.
    secret: RandomState,
}

impl Debug for Known {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Known")
    }
}

#[async_trait]
impl AuthSource for Known {
    async fn get_password(&self, _: &LoginInfo) -> PgWireResult<Password> {
        Err(PgWireError::InvalidScramMessage("there are no passwords, only verifiers".to_owned()))
    }

    async fn get_scram_secret(&self, login: &LoginInfo) -> PgWireResult<(ScramSecret, Option<()>)> {
        let name = login.user().unwrap_or_default();
        let secret = match self.users.get(name).map(|user| user.verifier.clone()) {
            Some(verifier) => ScramSecret::Verifier {
                salt: verifier.salt,
                iterations: verifier.iterations,
                stored_key: verifier.stored_key,
                server_key: verifier.server_key,
            },
            None => {
                let halves = [0u8, 1].map(|half| self.secret.hash_one((name, half)).to_be_bytes());
                let mut salt = halves.concat();
                salt.truncate(SALT_BYTES);
                // No password leads to a key of zeros.
                let none = vec![0; 32];
                let (stored_key, server_key) = (none.clone(), none);
                ScramSecret::Verifier { salt, iterations: ITERATIONS, stored_key, server_key }
            }
        };
        Ok((secret, None))
    }
}

/// Tells the log who was turned away.
pub(crate) struct Errors;

impl ErrorHandler for Errors {
    fn on_error<C: ClientInfo>(&self, client: &C, error: &mut PgWireError) {
        if let PgWireError::InvalidPassword(_) = error {
            let (user, address) = (user_of(client), client.socket_addr().ip());
            tracing::warn!(user, %address, "the console has let somebody not in: a wrong user or password");
        }
    }
}

/// All of it, for one listener.
pub(crate) struct Handlers<M> {
    pub console: Arc<Console<M>>,
    pub door: Arc<Door<M>>,
}

impl<M> Clone for Handlers<M> {
    fn clone(&self) -> Self {
        Handlers { console: self.console.clone(), door: self.door.clone() }
    }
}

impl<M: Model> PgWireServerHandlers for Handlers<M> {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.console.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::new(Reader(self.console.clone()))
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.door.clone()
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::new(Errors)
    }
}
