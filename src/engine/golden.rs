//! Golden scripts of the cores: a line with `>` is an event, and those below it are what came of it. A line
//! with `#` begins another script, with a core that knows nothing.

/// Plays all events anew, and compares. `play` returns whole lines.
pub fn assert_plays<S>(golden: &str, begin: impl Fn() -> S, play: impl Fn(&mut S, &str) -> String) {
    let mut script = begin();
    let mut played = String::new();
    let is_input = |line: &&str| line.is_empty() || line.starts_with(['>', '#']);
    for line in golden.lines().filter(is_input) {
        played += &format!("{line}\n");
        if line.starts_with('#') {
            script = begin();
        }
        if let Some(event) = line.strip_prefix("> ") {
            played += &play(&mut script, event);
        }
    }
    assert!(played == golden, "it plays as\n{played}");
}
