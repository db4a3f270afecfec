//! The built-in types whose object ids are the same everywhere: their names, and how their values become JSON.

use std::sync::Arc;

use crate::kind::{ArrayKind, Kind, Scalar};

impl Kind {
    /// How values of a built-in type become JSON; `None` for a type that only the source's catalog knows.
    pub fn builtin(type_oid: u32) -> Option<Self> {
        builtin(type_oid).map(|(_, kind)| kind)
    }
}

/// The name of a built-in type, as `format_type` prints it without modifier.
pub fn type_name(type_oid: u32) -> Option<&'static str> {
    builtin(type_oid).map(|(name, _)| name)
}

/// Object ids, from PostgreSQL's pg_type.dat: they never change. Each type with that of its array. Not here are types
/// whose values nobody can write (`pg_node_tree` and those of statistics), domains and composites.
fn builtin(type_oid: u32) -> Option<(&'static str, Kind)> {
    macro_rules! types {
        ($($scalar:ident { $($oid:literal $array_oid:literal $name:literal $((delimiter $delimiter:literal))?)* })*) => {
            match type_oid {
                $($(
                    $oid => Some(($name, Kind::Scalar(Scalar::$scalar))),
                    $array_oid => {
                        let delimiter = [$($delimiter,)? b','][0];
                        let element = Kind::Scalar(Scalar::$scalar);
                        Some((concat!($name, "[]"), Kind::Array(Arc::new(ArrayKind { element, delimiter }))))
                    }
                )*)*
                _ => None,
            }
        };
    }
    types! {
        Bool { 16 1000 "boolean" }
        Number {
            20 1016 "bigint"
            21 1005 "smallint"
            23 1007 "integer"
            700 1021 "real"
            701 1022 "double precision"
            1700 1231 "numeric"
        }
        Bytea { 17 1001 "bytea" }
        Json { 114 199 "json" }
        Jsonb { 3802 3807 "jsonb" }
        Date { 1082 1182 "date" }
        Timestamp { 1114 1115 "timestamp without time zone" }
        TimestampTz { 1184 1185 "timestamp with time zone" }
        Int2Vector { 22 1006 "int2vector" }
        OidVector { 30 1013 "oidvector" }
        Text {
            18 1002 "\"char\""
            19 1003 "name"
            24 1008 "regproc"
            25 1009 "text"
            26 1028 "oid"
            27 1010 "tid"
            28 1011 "xid"
            29 1012 "cid"
            142 143 "xml"
            600 1017 "point"
            601 1018 "lseg"
            602 1019 "path"
            603 1020 "box" (delimiter b';')
            604 1027 "polygon"
            628 629 "line"
            650 651 "cidr"
            718 719 "circle"
            774 775 "macaddr8"
            790 791 "money"
            829 1040 "macaddr"
            869 1041 "inet"
            1033 1034 "aclitem"
            1042 1014 "character"
            1043 1015 "character varying"
            1083 1183 "time without time zone"
            1186 1187 "interval"
            1266 1270 "time with time zone"
            1560 1561 "bit"
            1562 1563 "bit varying"
            1790 2201 "refcursor"
            2202 2207 "regprocedure"
            2203 2208 "regoper"
            2204 2209 "regoperator"
            2205 2210 "regclass"
            2206 2211 "regtype"
            2950 2951 "uuid"
            2970 2949 "txid_snapshot"
            3220 3221 "pg_lsn"
            3614 3643 "tsvector"
            3615 3645 "tsquery"
            3734 3735 "regconfig"
            3769 3770 "regdictionary"
            3904 3905 "int4range"
            3906 3907 "numrange"
            3908 3909 "tsrange"
            3910 3911 "tstzrange"
            3912 3913 "daterange"
            3926 3927 "int8range"
            4072 4073 "jsonpath"
            4089 4090 "regnamespace"
            4096 4097 "regrole"
            4191 4192 "regcollation"
            4451 6150 "int4multirange"
            4532 6151 "nummultirange"
            4533 6152 "tsmultirange"
            4534 6153 "tstzmultirange"
            4535 6155 "datemultirange"
            4536 6157 "int8multirange"
            5038 5039 "pg_snapshot"
            5069 271 "xid8"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_format_type() {
        assert_eq!(type_name(1042), Some("character"));
        assert_eq!(type_name(1020), Some("box[]"));
        assert_eq!(type_name(16_384), None, "the first that is not built in");
        let boxes = ArrayKind { element: Kind::TEXT, delimiter: b';' };
        assert_eq!(Kind::builtin(1020), Some(Kind::Array(Arc::new(boxes))));
    }
}
