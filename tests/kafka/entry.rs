//! A record as each of the libraries should see it, whoever wrote it.

/// Nothing in it may change between a producer and a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: i64,
}

/// 2023-11-14, so that no broker's clock gives it.
pub const TIME: i64 = 1_700_000_000_000;

impl Entry {
    pub fn value(value: &str) -> Entry {
        Entry {
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: TIME,
        }
    }

    pub fn at(self, timestamp: i64) -> Entry {
        Entry { timestamp, ..self }
    }

    fn key(self, key: &str) -> Entry {
        let key = Some(key.into());
        Entry { key, ..self }
    }

    fn header(mut self, key: &str, value: Option<&str>) -> Entry {
        self.headers.push((key.into(), value.map(Into::into)));
        self
    }
}

/// Records that are worth compressing.
pub fn many() -> Vec<Entry> {
    let numbers = 0..200;
    let entries = numbers.map(|number| {
        let value = format!("record {number} of these, {}", "and so on, ".repeat(20));
        Entry::value(&value)
            .key(&format!("key {}", number % 7))
            .header("number", Some(&number.to_string()))
            .at(TIME + number)
    });
    entries.collect()
}

/// What has no key, or no value, or an empty one; with headers as every library can write them.
pub fn peculiar() -> Vec<Entry> {
    let tombstone = |key: &str| Entry {
        value: None,
        ..Entry::value("").key(key)
    };
    vec![
        Entry::value("without a key"),
        Entry::value("with an empty key").key(""),
        Entry::value("").key("with an empty value"),
        tombstone("a tombstone"),
        Entry {
            key: None,
            ..tombstone("")
        },
        Entry::value("").key(""),
        Entry::value("just after the epoch").at(1),
        Entry::value("later than the next").at(TIME + 5),
        Entry::value("earlier than the one before").at(TIME - 5),
        Entry::value("with headers")
            .header("", Some("without a name"))
            .header("empty", Some(""))
            .header("grüße", Some("\u{1f980}")),
    ]
}

/// Headers that rskafka can't hold: it has a map of names to values.
pub fn with_peculiar_headers() -> Vec<Entry> {
    vec![
        Entry::value("null and empty")
            .header("null", None)
            .header("empty", Some("")),
        Entry::value("one name twice, not sorted")
            .header("z", Some("1"))
            .header("a", Some("2"))
            .header("z", Some("3")),
    ]
}
