//! `#[derive(Kafka)]`: Kafka's binary encoding of a struct, from a description of its fields.
//!
//! What Kafka's own message files say of a field in JSON stands here beside it in an attribute:
//!
//! ```ignore
//! #[derive(Kafka)]
//! pub struct Response {
//!     #[kafka("1+")]
//!     pub throttle_time_ms: i32,
//!     #[kafka("2+", nullable = "2+")]
//!     pub cluster_id: Option<String>,
//!     #[kafka("10+", tag = 0)]
//!     pub node_endpoints: Vec<NodeEndpoint>,
//!     #[kafka(none)]
//!     pub server_software_version: String,
//! }
//! ```
//!
//! - The first word says in which versions the field is there: `"3+"`, `"0-8"`, `"5"`; `none` for a
//!   field that Kafka doesn't have. Without an attribute it is in all.
//! - `nullable`: in which versions an `Option` may be null; without it, in all. In the others null is
//!   refused, and `None` is written as the type's default.
//! - `default`: what the field is in a version that lacks it; without it, its type's default.
//! - `tag`: the field is a tagged one (KIP-482), and left out where it has its default.
//!
//! `#[kafka(adapt)]` on the struct names a type whose versions differ by more than that: it
//! implements `Adapt`, which is called after each decoding and before each encoding.
//!
//! The derive makes three impls: `Field` and `NullableField` of `crate::protocol::kafka`, and
//! `Default`, which is what a message of no fields at all would mean.

mod attributes;
mod generate;

use proc_macro::TokenStream;
use syn::{parse_macro_input, DeriveInput};

/// See the crate's documentation.
#[proc_macro_derive(Kafka, attributes(kafka))]
pub fn derive_kafka(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    generate::kafka(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
