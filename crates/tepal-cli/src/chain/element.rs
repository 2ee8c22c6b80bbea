use super::Mistake;

/// One argument of a chain, taken apart: `name:rest,option=value,flag`.
///
/// In the rest and in values a backslash takes the next character as it is, and double quotes
/// take all between them, so that a path may hold a comma.
#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) name: String,
    /// What follows the name's colon.
    pub(crate) rest: Option<Word>,
    pub(crate) options: Vec<Setting>,
    argument: String,
}

/// An option, with its value if it has one.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) key: Word,
    pub(crate) value: Option<Word>,
}

/// A piece of an argument without its quotes, and where each of its characters was.
#[derive(Clone, Default, Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) column: usize,
}

impl Element {
    pub(crate) fn parse(argument: &str) -> Result<Element, Mistake> {
        let mut reader = Reader { argument, chars: argument.chars().collect(), at: 0 };
        let name = reader.plain(|c| c == ':' || c == ',');
        if name.text.is_empty() {
            return Err(reader.mistake(0, "an element begins with a name, such as tcp or tls"));
        }
        let rest = match reader.eat(':') {
            true => Some(reader.quoted()?),
            false => None,
        };
        let mut options = Vec::new();
        while reader.eat(',') {
            let key = reader.plain(|c| c == '=' || c == ',');
            if key.text.is_empty() {
                return Err(reader.mistake(key.column, "an option has a name: name=value"));
            }
            let value = match reader.eat('=') {
                true => Some(reader.quoted()?),
                false => None,
            };
            options.push(Setting { key, value });
        }
        Ok(Element { name: name.text, rest, options, argument: argument.to_owned() })
    }

    /// Something wrong with the element as a whole.
    pub(crate) fn mistake(&self, text: impl Into<String>) -> Mistake {
        self.mistake_at(0, text)
    }

    /// Something wrong with what the element is, which its text says itself.
    pub(crate) fn mistake_of_name(&self, text: impl Into<String>) -> Mistake {
        Mistake::at(&self.argument, 0, text)
    }

    pub(crate) fn mistake_at(&self, column: usize, text: impl Into<String>) -> Mistake {
        Mistake::at(&self.argument, column, format!("{}: {}", self.name, text.into()))
    }
}

struct Reader<'a> {
    argument: &'a str,
    chars: Vec<char>,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Up to a character that ends it.
    fn plain(&mut self, ends: impl Fn(char) -> bool) -> Word {
        let mut word = Word { text: String::new(), column: self.at };
        while let Some(c) = self.peek().filter(|c| !ends(*c)) {
            word.text.push(c);
            self.at += 1;
        }
        word
    }

    /// Up to a comma, with quotes and backslashes taken away.
    fn quoted(&mut self) -> Result<Word, Mistake> {
        let mut word = Word { text: String::new(), column: self.at };
        let mut opened = None;
        while let Some(c) = self.peek().filter(|c| *c != ',' || opened.is_some()) {
            self.at += 1;
            match c {
                '\\' => match self.peek() {
                    Some(next) => {
                        word.text.push(next);
                        self.at += 1;
                    }
                    None => {
                        let text = "a backslash is followed by the character that it keeps";
                        return Err(self.mistake(self.at - 1, text));
                    }
                },
                '"' if opened.is_some() => opened = None,
                '"' => opened = Some(self.at - 1),
                c => word.text.push(c),
            }
        }
        match opened {
            Some(column) => Err(self.mistake(column, "this quote is never closed")),
            None => Ok(word),
        }
    }

    fn mistake(&self, column: usize, text: &str) -> Mistake {
        Mistake::at(self.argument, column, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name, what follows its colon, and each option with its value, between bars.
    fn parts(argument: &str) -> String {
        let element = Element::parse(argument).expect("it is well formed");
        let mut text = format!("{}|{:?}", element.name, element.rest.map(|rest| rest.text));
        for option in element.options {
            text.push_str(&format!("|{} {:?}", option.key.text, option.value.map(|v| v.text)));
        }
        text
    }

    #[test]
    fn an_argument_falls_into_name_rest_and_options() {
        assert_eq!(parts("tls"), "tls|None");
        assert_eq!(parts("tcp:[::1]:80"), r#"tcp|Some("[::1]:80")"#);
        assert_eq!(parts("tls,cert=a=b,resume"), r#"tls|None|cert Some("a=b")|resume None"#);
        assert_eq!(parts(r"unix:/a\,b"), r#"unix|Some("/a,b")"#);
        assert_eq!(parts(r#"unix:"/a,b"\"c"#), r#"unix|Some("/a,b\"c")"#);
        assert_eq!(parts("unix:,x="), r#"unix|Some("")|x Some("")"#);
    }

    #[test]
    fn what_is_broken_is_told_with_its_column() {
        for (argument, column) in [
            ("", 1),
            (":x", 1),
            ("tls,", 5),
            ("tls,,a", 5),
            ("tls,=x", 5),
            (r"unix:a\", 7),
            (r#"a:b"c"#, 4),
        ] {
            let text = Element::parse(argument).expect_err(argument).to_string();
            assert!(
                text.lines().last().is_some_and(|mark| mark.len() == column + 2),
                "{argument}: {text}"
            );
        }
    }
}
