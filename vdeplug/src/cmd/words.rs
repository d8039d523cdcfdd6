//! A command line and its words, without a shell.

/// Cuts a command into words at blanks; `'`, `"` and `\` keep blanks inside a word.
///
/// A command that is quoted as a whole is cut once more: the quotes were meant for a shell.
pub(crate) fn split(command: &str) -> Result<Vec<String>, String> {
    let words = cut(command)?;
    match words.as_slice() {
        [whole] if whole.contains([' ', '\t']) => cut(whole),
        _ => Ok(words),
    }
}

fn cut(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            quote @ ('\'' | '"') => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        None => return Err(format!("`{quote}` is never closed")),
                        Some(end) if end == quote => break,
                        Some('\\') if quote == '"' => word.extend(characters.next()),
                        Some(inside) => word.push(inside),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<String> {
        split(command).expect("closed quotes")
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words(" ssh  host vde_plug vxvde:// "), ["ssh", "host", "vde_plug", "vxvde://"]);
        assert_eq!(words("sh -c 'a  \"b\" \\' ''"), ["sh", "-c", "a  \"b\" \\", ""]);
        assert_eq!(words(r#"a\ b "c \"d\"" e"f g"h"#), ["a b", "c \"d\"", "ef gh"]);
        assert!(words("").is_empty());
        assert!(split("a 'b").is_err());
    }

    #[test]
    fn a_command_quoted_as_a_whole_is_the_same_command() {
        assert_eq!(words(r#""ssh host vde_plug""#), ["ssh", "host", "vde_plug"]);
        assert_eq!(words(r#""sh -c 'a b'""#), ["sh", "-c", "a b"]);
    }
}
