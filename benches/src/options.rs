use std::collections::HashMap;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Why a command ended: wrong use (exit code 2) or something that went wrong (1).
#[derive(Debug)]
pub(crate) enum Failure {
    Usage(String),
    Run(String),
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::Usage(text.into())
    }

    pub(crate) fn run(text: impl Into<String>) -> Failure {
        Failure::Run(text.into())
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Run(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Run(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Run(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Failure {
        Failure::Run(error.to_string())
    }
}

/// The words of a command line: `--name value`, flags without a value, and the rest in order.
#[derive(Debug)]
pub(crate) struct Options {
    named: HashMap<String, String>,
    rest: Vec<String>,
}

impl Options {
    /// `known` lists the options; one that ends in `!` is a flag.
    pub(crate) fn parse(
        words: impl Iterator<Item = String>,
        known: &[&str],
    ) -> Result<Options, Failure> {
        let mut words = words;
        let mut named = HashMap::new();
        let mut rest = Vec::new();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                rest.push(word);
                continue;
            };
            if known.iter().any(|k| k.strip_suffix('!') == Some(name)) {
                named.insert(name.to_owned(), String::new());
            } else if known.contains(&name) {
                let value = words
                    .next()
                    .ok_or_else(|| Failure::usage(format!("--{name} wants a value")))?;
                named.insert(name.to_owned(), value);
            } else {
                return Err(Failure::usage(format!("there is no option --{name}")));
            }
        }
        Ok(Options { named, rest })
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    pub(crate) fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.named.get(name).map_or(default, String::as_str)
    }

    /// One value.
    pub(crate) fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T, Failure> {
        match self.named.get(name) {
            None => Ok(default),
            Some(text) => parse(name, text),
        }
    }

    /// Values with commas between them; at least one.
    pub(crate) fn list<T: FromStr>(&self, name: &str, default: &str) -> Result<Vec<T>, Failure> {
        self.text(name, default).split(',').map(|text| parse(name, text)).collect()
    }

    /// The words that were no options; `index` counts from 0.
    pub(crate) fn word<T: FromStr>(&self, index: usize, what: &str) -> Result<T, Failure> {
        match self.rest.get(index) {
            None => Err(Failure::usage(format!("{what} is missing"))),
            Some(text) => parse(what, text),
        }
    }
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T, Failure> {
    text.trim().parse().map_err(|_| Failure::usage(format!("{name}: {text:?} does not fit")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, Failure> {
        Options::parse(line.split_whitespace().map(str::to_owned), &["sizes", "quick!"])
    }

    #[test]
    fn options_flags_and_words_are_told_apart() {
        let options = options("one --sizes 64,1024 --quick 2").unwrap();
        assert_eq!(options.list::<usize>("sizes", "1").unwrap(), [64, 1024]);
        assert!(options.flag("quick"));
        assert_eq!(options.word::<String>(0, "first").unwrap(), "one");
        assert_eq!(options.word::<u32>(1, "second").unwrap(), 2);
        assert_eq!(options.word::<u32>(2, "third").unwrap_err().code(), 2);
    }

    #[test]
    fn wrong_use_is_refused() {
        for line in ["--nothing 1", "--sizes", "--sizes 64,,1", "--sizes big"] {
            let refused = options(line).and_then(|o| o.list::<usize>("sizes", "1").map(drop));
            assert_eq!(refused.unwrap_err().code(), 2, "{line}");
        }
    }
}
