//! What grows with what: a few measured points as lines, as JSON, and as a picture for the documents.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::report::{line, number};

/// The picture's size and its margins: left, right, top, bottom.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const MARGINS: [f64; 4] = [64.0, 20.0, 40.0, 48.0];
/// Room above the highest point.
const HEADROOM: f64 = 1.15;

/// Points of one measure over sizes that lie decades apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// Such as B7.
    pub id: String,
    pub title: String,
    /// What grows, such as `clients`.
    pub x: String,
    /// What is measured and its unit.
    pub y: String,
    /// Size and value.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    pub(crate) fn new(
        id: &str,
        title: impl Into<String>,
        x: impl Into<String>,
        y: impl Into<String>,
    ) -> Self {
        Curve { id: id.to_owned(), title: title.into(), x: x.into(), y: y.into(), points: Vec::new() }
    }

    /// Prints it.
    pub(crate) fn show(&self) {
        line(&format!("\n{} {} ({})", self.id, self.title, self.y));
        for (size, value) in &self.points {
            line(&format!("  {:>12} {:<31} {:>10}", number(*size), self.x, number(*value)));
        }
    }

    /// The name of its picture: `b7-clients.svg`.
    pub(crate) fn file_name(&self) -> String {
        let plain = |text: &str| {
            let text: String =
                text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            text.to_ascii_lowercase()
        };
        format!("{}-{}.svg", plain(&self.id), plain(&self.x))
    }

    /// A picture: sizes on a logarithmic axis, values from zero on, each point with its number.
    pub(crate) fn svg(&self) -> String {
        let [left, right, top, bottom] = MARGINS;
        let sizes = || self.points.iter().map(|(size, _)| size.max(1.0).log10());
        let (low, high) = (sizes().fold(f64::MAX, f64::min), sizes().fold(f64::MIN, f64::max));
        let most = self.points.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max) * HEADROOM;
        let (right_edge, floor) = (WIDTH - right, HEIGHT - bottom);
        let place = |(size, value): &(f64, f64)| {
            let along = (size.max(1.0).log10() - low) / (high - low).max(f64::EPSILON);
            (left + along * (right_edge - left), floor - value / most * (floor - top))
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{left}\" y=\"20\" font-size=\"14\">{}</text>\n\
             <path d=\"M{left} {top}V{floor}H{right_edge}\" fill=\"none\" stroke=\"#888\"/>\n\
             <text x=\"{right_edge}\" y=\"{}\" text-anchor=\"end\" fill=\"#555\">{}</text>\n\
             <text x=\"{left}\" y=\"34\" fill=\"#555\">{}</text>\n",
            escaped(&self.title),
            HEIGHT - 8.0,
            escaped(&self.x),
            escaped(&self.y),
        );
        let path: Vec<String> =
            self.points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for point in &self.points {
            let (x, y) = place(point);
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#1f6feb\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
                y - 8.0,
                number(point.1),
                floor + 18.0,
                point.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_point_inside_its_frame() {
        let mut curve = Curve::new("B7", "cost < twice", "distinct filters", "µs a change");
        curve.points = vec![(10.0, 2.0), (100.0, 4.0), (1_000.0, 3.0)];
        let svg = curve.svg();
        assert_eq!(curve.file_name(), "b7-distinct-filters.svg");
        assert!(svg.contains("cost &lt; twice"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
        // The first and last stand at the edges, the second in the middle and highest.
        assert!(svg.contains("points=\"64.0,159.8 302.0,67.7 540.0,113.7\""), "{svg}");
    }
}
