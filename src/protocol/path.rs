//! Names the field that a message is wrong at.
//!
//! MessagePack arrays carry no names, so rmp-serde's errors don't either. When a body can't be
//! decoded it is decoded once more through this wrapper, which notes the way that serde takes
//! through the structs, as `topic_data[0].partition_data[2].records`. Only failures pay for it.

use std::cell::RefCell;

use rmp_serde::decode::Deserializer as Rmp;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::scan::DEPTH_MAX;

/// What is wrong with these bytes as a `T`, the field's path first.
pub(super) fn explain<T: DeserializeOwned>(body: &[u8]) -> String {
    let path = RefCell::new(String::new());
    let mut rmp = Rmp::from_read_ref(body);
    rmp.set_max_depth(DEPTH_MAX);
    let named = Named {
        inner: &mut rmp,
        path: &path,
    };
    let result = T::deserialize(named);
    let path = path.into_inner();
    match result {
        Ok(_) => "it can't be decoded".to_string(),
        Err(error) if path.is_empty() => error.to_string(),
        Err(error) => format!("{path}: {error}"),
    }
}

/// Passes everything on to `inner`, and wraps what it is given to visit.
struct Named<'p, D> {
    inner: D,
    path: &'p RefCell<String>,
}

/// What the elements of the sequence that comes are called.
#[derive(Clone, Copy)]
enum Elements {
    Fields(&'static [&'static str]),
    Numbered,
}

struct NamedVisitor<'p, V> {
    inner: V,
    path: &'p RefCell<String>,
    elements: Elements,
}

impl<'p, D> Named<'p, D> {
    fn visitor<V>(&self, inner: V, elements: Elements) -> NamedVisitor<'p, V> {
        NamedVisitor {
            inner,
            path: self.path,
            elements,
        }
    }
}

macro_rules! pass_on {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.visitor(visitor, Elements::Numbered);
            self.inner.$method(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Named<'_, D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_option deserialize_seq deserialize_ignored_any
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char unit map identifier
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Elements::Fields(fields));
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Elements::Numbered);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Elements::Numbered);
        self.inner.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Elements::Numbered);
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }
}

macro_rules! visit_on {
    ($($method:ident: $type:ty)*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NamedVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.expecting(f)
    }

    visit_on! {
        visit_bool: bool visit_i8: i8 visit_i16: i16 visit_i32: i32 visit_i64: i64
        visit_u8: u8 visit_u16: u16 visit_u32: u32 visit_u64: u64 visit_f32: f32 visit_f64: f64
        visit_str: &str visit_borrowed_str: &'de str visit_bytes: &[u8]
        visit_borrowed_bytes: &'de [u8]
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let path = self.path;
        self.inner.visit_some(Named { inner, path })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let path = self.path;
        self.inner.visit_newtype_struct(Named { inner, path })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(NamedSeq {
            inner,
            path: self.path,
            elements: self.elements,
            next: 0,
        })
    }
}

struct NamedSeq<'p, A> {
    inner: A,
    path: &'p RefCell<String>,
    elements: Elements,
    next: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for NamedSeq<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let index = self.next;
        self.next += 1;
        let before = {
            let mut path = self.path.borrow_mut();
            let before = path.len();
            match self.elements {
                Elements::Fields(fields) => {
                    if before > 0 {
                        path.push('.');
                    }
                    path.push_str(fields.get(index).copied().unwrap_or("?"));
                }
                Elements::Numbered => path.push_str(&format!("[{index}]")),
            }
            before
        };
        let seed = NamedSeed {
            inner: seed,
            path: self.path,
        };
        let element = self.inner.next_element_seed(seed)?;
        self.path.borrow_mut().truncate(before);
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

struct NamedSeed<'p, T> {
    inner: T,
    path: &'p RefCell<String>,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for NamedSeed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        let path = self.path;
        self.inner.deserialize(Named { inner, path })
    }
}
