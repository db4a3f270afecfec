//! Hashing on its own, with its lines held up.

use super::*;

const SECRET: &str = "right";

fn proof() -> Arc<Proof> {
    Arc::new(Proof::new(hash(SECRET, b"0123456789abcdef").unwrap()))
}

#[test]
fn a_hash_says_how_it_was_made_and_fits_one_secret() {
    let made = hash(SECRET, b"0123456789abcdef").unwrap();
    assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{made}");
    assert_ne!(made, hash(SECRET, b"0123456789abcdeF").unwrap());
    assert!(is_hash_of(&made, SECRET));
    for other in ["", "righ", "right ", "Right"] {
        assert!(!is_hash_of(&made, other), "{other}");
    }
    for nonsense in ["", SECRET, "$argon2id$", &made[..made.len() - 1]] {
        assert!(!is_hash_of(nonsense, SECRET), "{nonsense}");
    }
}

#[tokio::test]
async fn a_secret_that_was_right_once_costs_no_hash() {
    let (hashing, proof) = (Hashing::new(), proof());
    assert_eq!(hashing.check(Some(&proof), "wrong").await, Err(Refusal::Invalid));
    assert_eq!(hashing.check(Some(&proof), SECRET).await, Ok(()));
    // Nothing can be hashed any more.
    hashing.permits.close();
    hashing.wrong.close();
    assert_eq!(hashing.check(Some(&proof), SECRET).await, Ok(()));
    // What is wrong is hashed all the same, and so is what nobody knows.
    assert_eq!(hashing.check(Some(&proof), "wrong").await, Err(Refusal::Busy));
    assert_eq!(hashing.check(None, SECRET).await, Err(Refusal::Busy));
    assert_eq!(hashing.check(Some(&self::proof()), SECRET).await, Err(Refusal::Busy));
}

#[tokio::test]
async fn wrong_secrets_wait_in_a_line_of_their_own_and_of_that_length() {
    let (hashing, proof) = (Hashing::new(), proof());
    let all = hashing.wrong.acquire_many(WRONG_AT_ONCE as u32).await.unwrap();
    let mut waiting: Vec<_> = Vec::new();
    for _ in 0..WRONG_WAITING_MAX {
        let mut check = Box::pin(hashing.check(None, "wrong"));
        assert!(futures_util::poll!(&mut check).is_pending());
        waiting.push(check);
    }
    assert_eq!(hashing.check(None, "wrong").await, Err(Refusal::Busy));
    // Whoever may be right is not held up.
    assert_eq!(hashing.check(Some(&proof), SECRET).await, Ok(()));
    drop(all);
    // The first in line has its turn by now; how long the others take is the machine's to say.
    assert_eq!(waiting.remove(0).await, Err(Refusal::Invalid));
}

#[tokio::test]
async fn of_one_token_there_is_one_hash_at_a_time_and_others_are_not_held_up() {
    let (hashing, known, other) = (Hashing::new(), proof(), proof());
    // Somebody knows an id and guesses.
    let turn = known.turn.acquire().await.unwrap();
    let mut guesses: Vec<_> = Vec::new();
    for _ in 0..WAITING_MAX {
        let mut guess = Box::pin(hashing.check(Some(&known), "wrong"));
        assert!(futures_util::poll!(&mut guess).is_pending());
        guesses.push(guess);
    }
    assert_eq!(hashing.check(Some(&known), SECRET).await, Err(Refusal::Busy));
    assert_eq!(hashing.permits.available_permits(), AT_ONCE, "whoever waits for a turn has none");
    assert_eq!(hashing.check(Some(&other), SECRET).await, Ok(()));
    drop((turn, guesses));
    assert_eq!(hashing.check(Some(&known), SECRET).await, Ok(()));
}

#[tokio::test]
async fn many_with_one_token_are_let_in_by_one_hash() {
    let (hashing, proof) = (Hashing::new(), proof());
    let first = hashing.check(Some(&proof), SECRET);
    let mut first = Box::pin(first);
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut others: Vec<_> = (0..50).map(|_| Box::pin(hashing.check(Some(&proof), SECRET))).collect();
    for other in &mut others {
        assert!(futures_util::poll!(other).is_pending());
    }
    assert_eq!(first.await, Ok(()));
    // From here on nothing can be hashed.
    hashing.permits.close();
    for other in others {
        assert_eq!(other.await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_long() {
    let (hashing, proof) = (Hashing::new(), proof());
    let all = hashing.permits.acquire_many(AT_ONCE as u32).await.unwrap();
    assert_eq!(hashing.check(Some(&proof), SECRET).await, Err(Refusal::Busy));
    drop(all);
}
