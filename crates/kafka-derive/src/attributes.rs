//! Reading `#[kafka(…)]`.

use std::ops::RangeInclusive;

use syn::{Attribute, DeriveInput, Error, Expr, Field, Ident, LitInt, LitStr, Result, Token};

/// Versions from 0 to the last that Kafka may ever have.
const ALL: RangeInclusive<i16> = 0..=i16::MAX;

/// What is said of one field.
pub struct FieldAttributes {
    /// `None`: Kafka doesn't have the field.
    pub versions: Option<RangeInclusive<i16>>,
    pub nullable: Option<RangeInclusive<i16>>,
    pub default: Option<Expr>,
    pub tag: Option<u32>,
}

impl FieldAttributes {
    pub fn of(field: &Field) -> Result<FieldAttributes> {
        let mut found = FieldAttributes {
            versions: Some(ALL),
            nullable: None,
            default: None,
            tag: None,
        };
        for attribute in kafka_attributes(&field.attrs) {
            attribute.parse_args_with(|input: syn::parse::ParseStream<'_>| {
                if input.peek(LitStr) {
                    found.versions = Some(versions(&input.parse()?)?);
                } else if input.peek(Ident) && input.fork().parse::<Ident>()? == "none" {
                    input.parse::<Ident>()?;
                    found.versions = None;
                } else {
                    return found.parse_named(input);
                }
                if input.is_empty() {
                    return Ok(());
                }
                input.parse::<Token![,]>()?;
                found.parse_named(input)
            })?;
        }
        Ok(found)
    }

    /// `name = value, …` up to the end.
    fn parse_named(&mut self, input: syn::parse::ParseStream<'_>) -> Result<()> {
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            match name.to_string().as_str() {
                "nullable" => self.nullable = Some(versions(&input.parse()?)?),
                "default" => self.default = Some(input.parse()?),
                "tag" => self.tag = Some(input.parse::<LitInt>()?.base10_parse()?),
                _ => {
                    return Err(Error::new(
                        name.span(),
                        "nullable, default or tag is expected",
                    ))
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }
}

/// Whether the struct is marked `#[kafka(adapt)]`.
pub fn is_adapted(input: &DeriveInput) -> Result<bool> {
    let mut adapted = false;
    for attribute in kafka_attributes(&input.attrs) {
        let word: Ident = attribute.parse_args()?;
        if word != "adapt" {
            return Err(Error::new(word.span(), "adapt is expected"));
        }
        adapted = true;
    }
    Ok(adapted)
}

fn kafka_attributes(all: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    all.iter().filter(|a| a.path().is_ident("kafka"))
}

/// `"3+"`, `"3-5"` or `"3"`.
fn versions(text: &LitStr) -> Result<RangeInclusive<i16>> {
    let value = text.value();
    let number = |text: &str| text.parse::<i16>().ok().filter(|n| *n >= 0);
    let range = if let Some(from) = value.strip_suffix('+') {
        number(from).map(|from| from..=i16::MAX)
    } else if let Some((from, to)) = value.split_once('-') {
        number(from).zip(number(to)).map(|(from, to)| from..=to)
    } else {
        number(&value).map(|only| only..=only)
    };
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| Error::new(text.span(), "versions are \"3+\", \"3-5\" or \"3\""))
}
