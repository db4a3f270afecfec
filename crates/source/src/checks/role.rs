//! The role: what it has to be able to do, and what it could do besides.

use waldelta_wal::Code;

use super::{Check, Subject};
use crate::Error;
use crate::ask::ask_one;
use crate::setup::provider::{administrator, grant_replication};

const ROLE: &str = include_str!("../../../../sql/source/check_role.sql");

pub(super) async fn role(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "role";
    let row =
        ask_one(subject.client, "ask for the role's rights", ROLE, &[&subject.source.publication]).await?;
    let role: &str = row.read("role")?;
    if !row.read::<bool>("may_replicate")? {
        let fix = format!(
            "-- as {}:\n{};",
            administrator(subject.provider),
            grant_replication(subject.provider, role)
        );
        return Ok(Check::failed(NAME, Code::PrivilegeMissing, format!("{role} may not replicate"), fix));
    }
    let besides = match (row.read("is_superuser")?, row.read::<Option<String>>("publisher")?) {
        (true, _) => "and, as a superuser, everything else, which Waldelta does not need".to_owned(),
        (false, Some(publisher)) if row.read("may_alter_publication")? => {
            format!("and alter the publication, as {publisher}")
        }
        (false, Some(publisher)) => format!("but not alter the publication, which is {publisher}'s"),
        (false, None) if row.read("may_create")? => {
            "and create a publication of tables that it owns".to_owned()
        }
        (false, None) => "but not create a publication, which has to be made by another role".to_owned(),
    };
    Ok(Check::ok(NAME, format!("{role} may replicate, {besides}")))
}
