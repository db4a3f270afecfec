//! From what the catalog says of types to what their values become as JSON. Pure.
//!
//! The model is what `to_jsonb` does (`json_categorize_type` in PostgreSQL's json.c and jsonb.c): it looks through domains,
//! then come the built-in types with a JSON form of their own, arrays, and composites, the row types of tables among them.
//! One thing differs: of the types with a cast to json only hstore's is followed, since a cast is a function that only the
//! source can call. All other types are their text: enums, ranges, base types of extensions, types that are gone.

use std::collections::HashMap;
use std::sync::Arc;

use waldelta_wal::{ArrayKind, CompositeKind, Field, Kind};

/// How many types there may be in a column's type, each counted where it occurs: domains, arrays, attributes.
const PARTS_MAX: usize = 10_000;

/// What a type that is not built in is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// A domain over this type.
    Domain(u32),
    /// An array.
    Array {
        /// Type of its elements.
        element: u32,
        /// What stands between them in its text.
        delimiter: u8,
    },
    /// A composite type or the row type of a table.
    Composite(Vec<Attribute>),
    /// The extension hstore's type.
    Hstore,
    /// Any other.
    Opaque,
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) number: i16,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) type_name: String,
}

/// A type nests too deep or has too many parts.
struct TooLarge;

/// How values of a type become JSON. A type beyond the limits is its text as a whole.
pub(super) fn resolve(definitions: &HashMap<u32, Definition>, type_oid: u32) -> Kind {
    let mut resolver = Resolver { definitions, parts_left: PARTS_MAX };
    resolver.kind(type_oid, Kind::DEPTH_MAX).unwrap_or(Kind::TEXT)
}

struct Resolver<'a> {
    definitions: &'a HashMap<u32, Definition>,
    parts_left: usize,
}

impl Resolver<'_> {
    fn kind(&mut self, mut type_oid: u32, levels_left: usize) -> Result<Kind, TooLarge> {
        let definition = loop {
            // No catalog has a type within itself, but if one had, this would end it.
            self.parts_left = self.parts_left.checked_sub(1).ok_or(TooLarge)?;
            if let Some(kind) = Kind::builtin(type_oid) {
                return Ok(kind);
            }
            match self.definitions.get(&type_oid) {
                Some(Definition::Domain(base)) => type_oid = *base,
                definition => break definition,
            }
        };
        let inner = || levels_left.checked_sub(1).ok_or(TooLarge);
        Ok(match definition {
            Some(Definition::Array { element, delimiter }) => {
                let element = self.kind(*element, inner()?)?;
                Kind::Array(Arc::new(ArrayKind { element, delimiter: *delimiter }))
            }
            Some(Definition::Composite(attributes)) => {
                let levels_left = inner()?;
                let field = |attribute: &Attribute| {
                    Ok(Field {
                        number: attribute.number,
                        name: attribute.name.clone(),
                        type_name: attribute.type_name.clone(),
                        kind: self.kind(attribute.type_oid, levels_left)?,
                    })
                };
                let fields = attributes.iter().map(field).collect::<Result<_, _>>()?;
                Kind::Composite(Arc::new(CompositeKind { type_oid, fields }))
            }
            Some(Definition::Hstore) => Kind::Hstore,
            Some(Definition::Domain(_) | Definition::Opaque) | None => Kind::TEXT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEGER: u32 = 23;
    const INTEGERS: u32 = 1007;

    fn attribute(number: i16, name: &str, type_oid: u32) -> Attribute {
        Attribute { number, name: name.into(), type_oid, type_name: format!("type {type_oid}") }
    }

    fn array(element: Kind) -> Kind {
        Kind::Array(Arc::new(ArrayKind { element, delimiter: b',' }))
    }

    fn definitions(of: impl IntoIterator<Item = (u32, Definition)>) -> HashMap<u32, Definition> {
        of.into_iter().collect()
    }

    #[test]
    fn types_are_looked_through() {
        let definitions = definitions([
            (20_001, Definition::Domain(20_002)),
            (20_002, Definition::Domain(INTEGERS)),
            (20_003, Definition::Array { element: 20_001, delimiter: b',' }),
            (20_004, Definition::Composite(vec![attribute(1, "n", INTEGER), attribute(3, "ns", 20_003)])),
            (20_005, Definition::Domain(20_004)),
            (20_006, Definition::Array { element: 20_007, delimiter: b';' }),
            (20_007, Definition::Hstore),
            (20_008, Definition::Opaque),
        ]);
        let number = Kind::builtin(INTEGER).unwrap();
        let integers = array(number.clone());
        assert_eq!(resolve(&definitions, INTEGER), number);
        assert_eq!(resolve(&definitions, 20_001), integers);
        assert_eq!(resolve(&definitions, 20_003), array(integers.clone()));
        let field = |number, name: &str, type_oid, kind| Field {
            number,
            name: name.into(),
            type_name: format!("type {type_oid}"),
            kind,
        };
        let fields = vec![field(1, "n", INTEGER, number), field(3, "ns", 20_003, array(integers))];
        assert_eq!(
            resolve(&definitions, 20_005),
            Kind::Composite(Arc::new(CompositeKind { type_oid: 20_004, fields }))
        );
        let hstores = ArrayKind { element: Kind::Hstore, delimiter: b';' };
        assert_eq!(resolve(&definitions, 20_006), Kind::Array(Arc::new(hstores)));
        assert_eq!(resolve(&definitions, 20_008), Kind::TEXT);
        assert_eq!(resolve(&definitions, 20_009), Kind::TEXT, "it is gone");
    }

    /// `levels` composites in each other, each with `width` attributes of the next one's type.
    fn nested(levels: usize, width: i16) -> HashMap<u32, Definition> {
        let levels = u32::try_from(levels).unwrap();
        let attributes = |level: u32| {
            let inner = if level == levels { INTEGER } else { 20_000 + level + 1 };
            (0..width).map(|number| attribute(number, "a", inner)).collect()
        };
        definitions((1..=levels).map(|level| (20_000 + level, Definition::Composite(attributes(level)))))
    }

    #[test]
    fn what_nests_too_deep_or_is_too_large_is_text() {
        assert!(matches!(resolve(&nested(Kind::DEPTH_MAX, 1), 20_001), Kind::Composite(_)));
        assert_eq!(resolve(&nested(Kind::DEPTH_MAX + 1, 1), 20_001), Kind::TEXT);
        assert!(matches!(resolve(&nested(2, 99), 20_001), Kind::Composite(_)));
        assert_eq!(resolve(&nested(2, 100), 20_001), Kind::TEXT);
        assert_eq!(resolve(&nested(Kind::DEPTH_MAX, 1_600), 20_001), Kind::TEXT, "at once");
    }

    #[test]
    fn what_is_within_itself_is_text() {
        let selves = definitions([
            (20_001, Definition::Domain(20_001)),
            (20_002, Definition::Array { element: 20_002, delimiter: b',' }),
            (20_003, Definition::Composite(vec![attribute(1, "a", 20_003), attribute(2, "b", 20_003)])),
        ]);
        for type_oid in [20_001, 20_002, 20_003] {
            assert_eq!(resolve(&selves, type_oid), Kind::TEXT);
        }
    }
}
