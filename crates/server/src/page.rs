//! The operator's page: what the status model says, drawn, and changes as they come. Its files load nothing from elsewhere.

use axum::Router;

use crate::example::{self, File};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [File; 10] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/page.css", CSS, include_str!("page/page.css")),
    ("/page/page.js", SCRIPT, include_str!("page/page.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/page/overview.js", SCRIPT, include_str!("page/overview.js")),
    ("/page/plots.js", SCRIPT, include_str!("page/plots.js")),
    ("/page/sessions.js", SCRIPT, include_str!("page/sessions.js")),
    ("/page/changes.js", SCRIPT, include_str!("page/changes.js")),
    ("/page/uplot.js", SCRIPT, include_str!("page/vendor/uPlot.iife.min.js")),
    ("/page/uplot.css", CSS, include_str!("page/vendor/uPlot.min.css")),
];

/// A route for each file.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    example::routes(FILES)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// What a browser loads for it on a slow line, compressed.
    const BYTES_MAX: usize = 60_000;

    #[test]
    fn it_stays_small() {
        let compressed = FILES.iter().map(|(_, _, text)| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap().len()
        });
        let bytes = compressed.sum::<usize>();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    }
}
