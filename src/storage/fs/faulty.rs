//! stub
/// stub
#[derive(Debug)]
pub struct FaultyFs;
