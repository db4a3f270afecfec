//! Headers that are lists (RFC 9110, section 5.6.1).

use axum::http::{HeaderMap, HeaderName};

/// The elements of a list, which may be spread over several headers. One that is not text says nothing.
pub(super) fn of(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim))
}
