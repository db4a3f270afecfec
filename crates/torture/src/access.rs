//! Who the clients of a round are, and what they may see: some everything, some what is a tenant's. And what must be nowhere: their
//! tokens, the password of the databases, the values of rows.

use serde_json::Value;

use crate::tables::WRITERS;
use crate::workload::owned::{HIDDEN, MARK, text_of};
use crate::world::World;

/// In the URLs of the databases, which ask for none.
pub(crate) const PASSWORD: &str = "planted-password-5c1e";
/// Tenants that have clients. There are more owners of rows.
pub(crate) const TENANTS: u64 = 2;
/// Shown around what was found in the wrong place.
const AROUND_BYTES: usize = 200;

/// A part of the configuration. Each rule can be decided on every old row: by the key, or by whole old rows.
pub(crate) const RULES: &str = r#"
[auth]
static_tokens = true

[[rules]]
table = "*"
claims = { role = ["all"] }

[[rules]]
table = "public.owned"
columns = ["owner", "n", "v"]
where = "owner = :claims.tenant"

[[rules]]
table = "public.pair"
where = "a = :claims.tenant"

[[rules]]
table = "public.part"
where = "region = :claims.tenant"

# The source sends no old row that says whose it was: nobody sees it.
[[rules]]
table = "public.item"
where = "owner = :claims.tenant"
"#;

/// As whom a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Everything,
    Tenant(u64),
}

/// The tokens of a round.
#[derive(Debug)]
pub(crate) struct Tokens {
    everything: String,
    tenants: Vec<String>,
}

impl Tokens {
    /// Makes them.
    pub(crate) async fn create(world: &World) -> Self {
        let token = async |name: &str, more: &[&str]| {
            let words = ["token", "create", "--json", "--name", name, "--subject", name];
            let done = world.command(&[&words, more].concat()).await;
            done.expect_success();
            let made: Value = serde_json::from_str(&done.output).unwrap();
            made["token"].as_str().unwrap().to_owned()
        };
        let everything = token("everything", &["--claim", r#"role="all""#, "--admin"]).await;
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            let claim = format!("tenant={number}");
            tenants.push(token(&format!("tenant-{number}"), &["--claim", &claim]).await);
        }
        Tokens { everything, tenants }
    }

    /// The token of somebody.
    pub(crate) fn of(&self, who: Who) -> &str {
        match who {
            Who::Everything => &self.everything,
            Who::Tenant(number) => &self.tenants[usize::try_from(number).unwrap()],
        }
    }

    /// Panics if there is something in this text that must be nowhere but at those whose it is.
    pub(crate) fn check_public(&self, what: &str, text: &str) {
        // The part before the point is the token's public name, which is in lists and the audit.
        let secret = |token: &str| token.split_once('.').map_or(token, |(_, secret)| secret).to_owned();
        let tokens = self.tenants.iter().chain([&self.everything]).map(|token| secret(token));
        let planted = [PASSWORD, MARK, HIDDEN, "text-of-"].map(str::to_owned);
        for planted in tokens.chain(planted) {
            absent(what, text, &planted);
        }
    }
}

/// A token that is nobody's.
pub(crate) fn unknown_token() -> String {
    format!("wd_{}.{}", "0".repeat(16), "a".repeat(64))
}

/// Panics if a tenant is told what is another's, or what is for nobody.
pub(crate) fn check_told(who: Who, what: &str, text: &str) {
    let Who::Tenant(tenant) = who else { return };
    absent(what, text, HIDDEN);
    let others = (0..WRITERS).filter(|owner| *owner != tenant);
    others.for_each(|owner| absent(what, text, &text_of(owner)));
}

#[track_caller]
fn absent(what: &str, text: &str, planted: &str) {
    let Some(at) = text.find(planted) else { return };
    let from = text.floor_char_boundary(at.saturating_sub(AROUND_BYTES));
    let to = text.floor_char_boundary((at + planted.len() + AROUND_BYTES).min(text.len()));
    panic!("I26, I22: {planted} is in {what}: … {} …", &text[from..to]);
}
