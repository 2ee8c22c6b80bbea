use std::path::PathBuf;

use super::element::{Element, Setting, Word};
use super::{Mistake, values};
use crate::near::near;

/// The options of an element, taken one by one. What nobody took is a mistake.
pub(super) struct Options<'a> {
    element: &'a Element,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    pub(super) fn of(element: &'a Element) -> Options<'a> {
        Options { element, known: Vec::new() }
    }

    /// All values of an option that may stand several times.
    pub(super) fn all(&mut self, key: &'static str) -> Result<Vec<&'a Word>, Mistake> {
        self.settings(key).map(|setting| self.value_of(setting)).collect()
    }

    /// The value of an option that may stand once.
    pub(super) fn one(&mut self, key: &'static str) -> Result<Option<&'a Word>, Mistake> {
        self.single(key)?.map(|setting| self.value_of(setting)).transpose()
    }

    /// Whether an option without a value is there.
    pub(super) fn flag(&mut self, key: &'static str) -> Result<bool, Mistake> {
        match self.single(key)? {
            Some(Setting { value: Some(value), .. }) => {
                Err(self.element.mistake_at(value.column, format!("'{key}' takes no value")))
            }
            found => Ok(found.is_some()),
        }
    }

    /// A value that is parsed.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Mistake> {
        let Some(word) = self.one(key)? else { return Ok(None) };
        let parsed = parse(&word.text).map_err(|text| self.wrong(word, key, &text))?;
        Ok(Some(parsed))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Mistake> {
        self.parsed(key, |text| {
            let found = choices.iter().find(|(name, _)| *name == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                format!("is one of {}", names.join(", "))
            })
        })
    }

    /// A size in bytes.
    pub(super) fn size(&mut self, key: &'static str) -> Result<Option<u64>, Mistake> {
        self.parsed(key, values::size)
    }

    pub(super) fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, Mistake> {
        self.parsed(key, |text| match text {
            "" => Err("is the path of a file".to_owned()),
            text => Ok(PathBuf::from(text)),
        })
    }

    /// A user and a password, which comes from a file or from the environment.
    pub(super) fn credentials(&mut self) -> Result<Option<(String, String)>, Mistake> {
        let user = self.one("user")?.map(|word| word.text.clone());
        let file = self.one("password-file")?;
        let variable = self.one("password-env")?;
        let word = self.one("password")?;
        let password = match (word, file, variable) {
            (None, None, None) => None,
            (Some(word), None, None) => Some(word.text.clone()),
            (None, Some(file), None) => {
                let read = values::secret_of_file(&file.text);
                Some(read.map_err(|text| self.unreadable(file, "password-file", &text))?)
            }
            (None, None, Some(variable)) => {
                let read = values::secret_of_variable(&variable.text);
                Some(read.map_err(|text| self.unreadable(variable, "password-env", &text))?)
            }
            _ => {
                let text = "the password comes from one place: password-file, password-env or \
                            password";
                return Err(self.element.mistake(text));
            }
        };
        match (user, password) {
            (Some(user), Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            (Some(_), None) => {
                // A password under a wrong name is told as that.
                self.finish()?;
                let text =
                    "'user' needs password-file=FILE, password-env=VARIABLE or password=TEXT";
                Err(self.element.mistake(text))
            }
            (None, Some(_)) => Err(self.element.mistake("a password needs user=NAME")),
        }
    }

    // A secret that this machine does not have.
    fn unreadable(&self, word: &Word, key: &str, text: &str) -> Mistake {
        self.wrong(word, key, text).of_machine()
    }

    /// Refuses what nobody took.
    pub(super) fn finish(&self) -> Result<(), Mistake> {
        let Options { element, known } = self;
        match element.options.iter().find(|s| !known.contains(&s.key.text.as_str())) {
            None => Ok(()),
            Some(setting) => {
                let word = &setting.key.text;
                let text = match near(word, known.iter().copied()) {
                    Some(name) => format!("no option '{word}'; did you mean '{name}'?"),
                    None => format!("no option '{word}' here; there are {}", known.join(", ")),
                };
                Err(element.mistake_at(setting.key.column, text))
            }
        }
    }

    /// Something wrong with a value.
    pub(super) fn wrong(&self, word: &Word, key: &str, text: &str) -> Mistake {
        self.element.mistake_at(word.column, format!("{key} {text}"))
    }

    fn settings(&mut self, key: &'static str) -> impl Iterator<Item = &'a Setting> + use<'a> {
        self.known.push(key);
        self.element.options.iter().filter(move |setting| setting.key.text == key)
    }

    fn single(&mut self, key: &'static str) -> Result<Option<&'a Setting>, Mistake> {
        let mut settings = self.settings(key);
        let first = settings.next();
        match settings.next() {
            None => Ok(first),
            Some(second) => {
                Err(self.element.mistake_at(second.key.column, format!("'{key}' stands twice")))
            }
        }
    }

    fn value_of(&self, setting: &'a Setting) -> Result<&'a Word, Mistake> {
        setting.value.as_ref().ok_or_else(|| {
            let Word { text, column } = &setting.key;
            self.element.mistake_at(*column, format!("'{text}' needs a value: {text}=..."))
        })
    }
}
