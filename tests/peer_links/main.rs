//! Links between nodes, in one process over loopback: what they carry, and what becomes of them when
//! processes end, networks break and strangers come.

#[path = "../cluster/proxy.rs"]
mod proxy;

mod harness;
mod hostile;
mod links;
mod strangers;
