//! A client of a tenant that asks over HTTP for whatever it can think of, its own and not, rightly and wrongly. No answer has anything
//! of another tenant, and each wrong question has the answer that docs/protocol.md gives to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use waldelta_testkit::Dice;
use waldelta_wal::{Epoch, Lsn, Position};

use super::Shared;
use crate::access::{TENANTS, Who, check_told, unknown_token};
use crate::http::get_as;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers of a service that cannot answer now: too much at once, a database out of reach, a stop.
const LATER: [u16; 2] = [429, 503];

/// A question, and the answers that it may get.
struct Question {
    path: String,
    token: String,
    answers: &'static [u16],
    /// In the body of an answer that refuses.
    code: &'static str,
}

/// Asks until the task is ended.
pub(super) async fn run(shared: Arc<Shared>, mut dice: Dice, start: Position) {
    loop {
        let stage = &shared.stage;
        let address = stage.fleet.address(stage.fleet.any_serving(&mut dice));
        let who = Who::Tenant(dice.roll(TENANTS));
        let question = question(stage.tokens.of(who), start, &mut dice);
        let Question { path, token, answers, code: name } = &question;
        if let Some((code, body)) = get_as(token, address, path, REQUEST_TIMEOUT).await {
            check_told(who, path, &body);
            assert!(answers.contains(&code) || LATER.contains(&code), "GET {path}: {code} {body}");
            if code != 200 {
                stage.tokens.check_public(path, &body);
            }
            let is_typed = code == 200 || LATER.contains(&code) || body.contains(name);
            assert!(is_typed, "GET {path}: {code} without {name}: {body}");
        }
        sleep(dice.ms(50, 400)).await;
    }
}

fn question(token: &str, start: Position, dice: &mut Dice) -> Question {
    let ask = |path: String, answers: &'static [u16], code| Question {
        path,
        token: token.to_owned(),
        answers,
        code,
    };
    let id = dice.roll(320);
    match dice.roll(13) {
        0 => ask(format!("/v1/changes?after={start}&limit=10000"), &[200], ""),
        1 => ask(format!("/v1/changes?after={start}&limit=10000&table=public.owned"), &[200], ""),
        2 => {
            let path =
                format!("/v1/changes?after={start}&limit=10000&table=public.owned&where=owner%20%3E%3D%200");
            ask(path, &[200], "")
        }
        3 => ask("/v1/snapshot?table=*".to_owned(), &[200], ""),
        4 => ask("/v1/snapshot?table=public.owned&where=id%20%3E%200".to_owned(), &[200], ""),
        // It may not see this column: the table has none of that name.
        5 => ask("/v1/snapshot?table=public.owned&columns=hidden".to_owned(), &[400], "WD-FILTER-INVALID"),
        6 => ask("/v1/snapshot?table=public.item".to_owned(), &[404], "WD-TABLE-NOT-CAPTURED"),
        7 => ask(format!("/v1/rows/public.owned/{id}/history?limit=1000"), &[200, 404, 410], "WD-"),
        8 => ask(format!("/v1/rows/public.owned/{id}"), &[200, 404, 410], "WD-"),
        9 => ask(format!("/v1/rows/public.item/{id}"), &[404, 410], "WD-"),
        10 => ask("/v1/changes?after=00000001-no-cursor".to_owned(), &[400], "WD-CURSOR-INVALID"),
        11 => {
            let far = [Epoch(start.epoch.0), Epoch(start.epoch.0 + 1000)]
                .map(|epoch| Position::whole(epoch, Lsn(u64::MAX >> 1)));
            ask(format!("/v1/changes?after={}", dice.pick(&far)), &[410], "WD-CURSOR-NOT-RESUMABLE")
        }
        _ => {
            let (path, token) = ("/v1/changes".to_owned(), unknown_token());
            Question { path, token, answers: &[401], code: "WD-TOKEN-INVALID" }
        }
    }
}
