//! Dates, times, intervals.

use super::matrix::{Case, check};

#[tokio::test]
async fn dates_and_timestamps() {
    const TIMESTAMPS: &[&str] = &[
        "2024-02-29 03:04:05.678901",
        "2024-01-02 03:04:05.6",
        "2024-01-01",
        "1969-12-31 23:59:59.999999",
        "1582-10-10",
        "0001-01-01 00:00:00",
        "0001-12-31 23:59:59.5 BC",
        "0044-03-15 12:13:14 BC",
        "4713-01-01 00:00:00 BC",
        "10000-01-01",
        "294276-12-31 23:59:59.999999",
        "infinity",
        "-infinity",
        "2016-12-31 23:59:60",
    ];
    check(
        "timestamps",
        "",
        &[
            Case(
                "date",
                &[
                    "2024-02-29",
                    "0001-01-01",
                    "0044-03-15 BC",
                    "4714-11-24 BC",
                    "5874897-12-31",
                    "infinity",
                    "-infinity",
                ],
            ),
            Case("timestamp", TIMESTAMPS),
            Case("timestamptz", TIMESTAMPS),
            Case("timestamp(0)", &["2024-01-02 03:04:05.5"]),
            Case(
                "timestamptz(3)",
                &["2024-01-02 03:04:05.6789+05:30", "1890-01-01 00:00:00-00:01:15", "epoch"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn times_and_intervals() {
    check(
        "times",
        "",
        &[
            Case("time", &["00:00", "24:00:00", "23:59:60", "03:04:05.678901", "03:04:05.6"]),
            Case("time(0)", &["23:59:59.9"]),
            Case(
                "timetz",
                &["00:00+00", "24:00:00-12", "12:13:14.123+05:30", "00:00:00+15:59:59", "00:00-15:59"],
            ),
            Case(
                "interval",
                &[
                    "0",
                    "1 year 2 mons 3 days 04:05:06.789",
                    "-1 mon -1 day +00:00:01",
                    "-1 year -2 mons +3 days -04:05:06.7",
                    "178000000 years",
                    "-178000000 years",
                    "2147483647 days",
                    "1 microsecond",
                ],
            ),
            Case("interval day to second(3)", &["1 12:59:10.123456"]),
        ],
    )
    .await;
}
