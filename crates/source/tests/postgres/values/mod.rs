//! Values and shapes, in the stream and in snapshots, against what PostgreSQL itself says of them: `to_jsonb`.

mod matrix;
mod world;

mod composed;
mod extensions;
mod numbers;
mod others;
mod ranges;
mod system;
mod texts;
mod times;

mod keys;
mod random;

mod encodings;
mod refused;

mod shapes;
