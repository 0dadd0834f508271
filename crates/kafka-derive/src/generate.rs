//! Writing the impls.

use std::ops::RangeInclusive;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Ident, Result, Type};

use crate::attributes::{is_adapted, FieldAttributes};

/// A field, and what is said of it.
struct Described<'a> {
    name: &'a Ident,
    is_option: bool,
    attributes: FieldAttributes,
}

pub fn kafka(input: &DeriveInput) -> Result<TokenStream> {
    let fields = describe(input)?;
    let name = &input.ident;
    let adapted = is_adapted(input)?;
    let default = default(&fields);
    let encode = encode(&fields, adapted);
    let decode = decode(&fields, adapted);
    Ok(quote! {
        impl ::core::default::Default for #name {
            fn default() -> Self {
                #default
            }
        }

        impl crate::protocol::kafka::Field for #name {
            #encode
            #decode
        }

        impl crate::protocol::kafka::NullableField for #name {
            fn encode_nullable(this: Option<&Self>, out: &mut crate::protocol::kafka::Encoder) {
                crate::protocol::kafka::encode_nullable_struct(this, out);
            }

            fn decode_nullable(
                input: &mut crate::protocol::kafka::Decoder<'_>,
            ) -> ::core::result::Result<Option<Self>, crate::protocol::kafka::DecodeError> {
                crate::protocol::kafka::decode_nullable_struct(input)
            }
        }
    })
}

fn describe(input: &DeriveInput) -> Result<Vec<Described<'_>>> {
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => &fields.named,
            _ => return Err(Error::new_spanned(input, "fields with names are expected")),
        },
        _ => return Err(Error::new_spanned(input, "a struct is expected")),
    };
    let described = fields.iter().map(|field| {
        let name = field.ident.as_ref();
        Ok(Described {
            name: name.ok_or_else(|| Error::new_spanned(field, "a name is expected"))?,
            is_option: is_option(&field.ty),
            attributes: FieldAttributes::of(field)?,
        })
    });
    described.collect()
}

fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == "Option"))
}

impl Described<'_> {
    fn default(&self) -> TokenStream {
        match &self.attributes.default {
            Some(expression) => quote! { #expression },
            None => quote! { ::core::default::Default::default() },
        }
    }

    /// The versions in which it stands in its place among the fields.
    fn in_place(&self) -> Option<&RangeInclusive<i16>> {
        let versions = self.attributes.versions.as_ref();
        versions.filter(|_| self.attributes.tag.is_none())
    }

    /// Its tag, and the versions in which it stands among the tagged fields.
    fn tagged(&self) -> Option<(u32, &RangeInclusive<i16>)> {
        self.attributes.tag.zip(self.attributes.versions.as_ref())
    }

    /// Tagged, and null when it isn't there: then there is no mark for null.
    fn is_present_or_none(&self) -> bool {
        self.is_option && self.attributes.nullable.is_none()
    }
}

fn contains(versions: &RangeInclusive<i16>, version: &TokenStream) -> TokenStream {
    let (from, to) = (versions.start(), versions.end());
    match (*from, *to) {
        (0, i16::MAX) => quote! { true },
        (0, _) => quote! { #version <= #to },
        (_, i16::MAX) => quote! { #version >= #from },
        _ => quote! { (#from..=#to).contains(&#version) },
    }
}

fn default(fields: &[Described<'_>]) -> TokenStream {
    let names = fields.iter().map(|field| field.name);
    let defaults = fields.iter().map(Described::default);
    quote! { Self { #(#names: #defaults,)* } }
}

fn encode(fields: &[Described<'_>], adapted: bool) -> TokenStream {
    let out_version = quote! { version };
    let in_place = fields.iter().filter_map(|field| {
        let name = field.name;
        let there = contains(field.in_place()?, &out_version);
        let write = match &field.attributes.nullable {
            Some(nullable) if field.is_option => {
                let nullable = contains(nullable, &out_version);
                quote! { crate::protocol::kafka::encode_option(&this.#name, #nullable, out) }
            }
            _ => quote! { crate::protocol::kafka::Field::encode(&this.#name, out) },
        };
        Some(quote! { if #there { #write; } })
    });
    let mut tagged: Vec<_> = fields
        .iter()
        .filter_map(|field| Some((field, field.tagged()?)))
        .collect();
    tagged.sort_by_key(|(_, (tag, _))| *tag);
    let conditions: Vec<_> = tagged
        .iter()
        .map(|(field, (_, versions))| {
            let name = field.name;
            let there = contains(versions, &out_version);
            let default = field.default();
            let differs = match field.is_option && field.attributes.default.is_none() {
                true => quote! { this.#name.is_some() },
                false => quote! { !crate::protocol::kafka::is_same(&this.#name, &#default) },
            };
            quote! { (#there && #differs) }
        })
        .collect();
    let writes = tagged
        .iter()
        .zip(&conditions)
        .map(|((field, (tag, _)), condition)| {
            let name = field.name;
            let write = match field.is_present_or_none() {
                true => quote! {
                    if let Some(value) = &this.#name {
                        crate::protocol::kafka::Field::encode(value, out);
                    }
                },
                false => quote! { crate::protocol::kafka::Field::encode(&this.#name, out) },
            };
            quote! { if #condition { out.tagged(#tag, |out| { #write; }); } }
        });
    let this = match adapted {
        true => quote! {
            let mut this = self.clone();
            crate::protocol::kafka::Adapt::downgrade(&mut this, version);
        },
        false => quote! { let this = self; },
    };
    quote! {
        #[allow(unused_variables)]
        fn encode(&self, out: &mut crate::protocol::kafka::Encoder) {
            let version = out.version();
            #this
            #(#in_place)*
            if out.is_flexible() {
                out.tagged_count(0 #(+ u32::from #conditions)*);
                #(#writes)*
            }
        }
    }
}

fn decode(fields: &[Described<'_>], adapted: bool) -> TokenStream {
    let version = quote! { version };
    let values = fields.iter().map(|field| {
        let name = field.name;
        let text = name.to_string();
        let default = field.default();
        let Some(versions) = field.in_place() else {
            return quote! { #name: #default };
        };
        let there = contains(versions, &version);
        let read = match &field.attributes.nullable {
            Some(nullable) if field.is_option => {
                let nullable = contains(nullable, &version);
                quote! { crate::protocol::kafka::decode_option(input, #nullable) }
            }
            _ => quote! { crate::protocol::kafka::Field::decode(input) },
        };
        quote! {
            #name: if #there { #read.map_err(|error| error.inside(#text))? } else { #default }
        }
    });
    let tags = fields.iter().filter_map(|field| {
        let name = field.name;
        let text = name.to_string();
        let (tag, versions) = field.tagged()?;
        let there = contains(versions, &version);
        let read = quote! {
            crate::protocol::kafka::Field::decode(input).map_err(|error| error.inside(#text))?
        };
        let read = match field.is_present_or_none() {
            true => quote! { Some(#read) },
            false => read,
        };
        Some(quote! {
            #tag if #there => {
                this.#name = #read;
                Ok(crate::protocol::kafka::Tag::Known)
            }
        })
    });
    let adapt = adapted.then(|| {
        quote! { crate::protocol::kafka::Adapt::upgrade(&mut this, version); }
    });
    quote! {
        #[allow(unused_mut, unused_variables)]
        fn decode(
            input: &mut crate::protocol::kafka::Decoder<'_>,
        ) -> ::core::result::Result<Self, crate::protocol::kafka::DecodeError> {
            let version = input.version();
            let mut this = Self { #(#values,)* };
            input.tagged_fields(|tag, input| match tag {
                #(#tags)*
                _ => Ok(crate::protocol::kafka::Tag::Unknown),
            })?;
            #adapt
            Ok(this)
        }
    }
}
