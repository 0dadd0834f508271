//! The pure state machines: no clock, no randomness, no I/O and no `async`.
//!
//! Each takes what it needs as arguments and says what is to be done; an actor, a test or a
//! simulator carries it out. Replicated state changes only by the *replay* of a committed
//! command, so the live path, a restart and a fail-over are one piece of code.

pub mod metadata;
