//! The example for browsers (`examples/browser`), served as it is: a page, and the code to copy.

use axum::Router;
use axum::routing::get;

use crate::http;

/// A file: its path, type and text.
pub(crate) type File = (&'static str, &'static str, &'static str);

const FILES: [File; 5] = [
    ("/example/", "text/html; charset=utf-8", include_str!("../../../examples/browser/index.html")),
    (
        "/example/example.css",
        "text/css; charset=utf-8",
        include_str!("../../../examples/browser/example.css"),
    ),
    (
        "/example/example.js",
        "text/javascript; charset=utf-8",
        include_str!("../../../examples/browser/example.js"),
    ),
    (
        "/example/waldelta.js",
        "text/javascript; charset=utf-8",
        include_str!("../../../examples/browser/waldelta.js"),
    ),
    ("/example/copy.js", "text/javascript; charset=utf-8", include_str!("../../../examples/browser/copy.js")),
];

/// Where the page is, on a service with this address.
pub(crate) fn address(service: &str) -> String {
    let [(path, ..), ..] = FILES;
    format!("{}{path}", service.trim_end_matches('/'))
}

/// A route for each file of it.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes(FILES)
}

/// A route for each of some files.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(files: impl IntoIterator<Item = File>) -> Router<S> {
    files.into_iter().fold(Router::new(), |router, (path, content_type, text)| {
        router.route(path, get(async move || http::file(content_type, text)))
    })
}
