use std::fmt;

/// The `hosts` line of nsswitch.conf(5): which modules are asked for a host, and in which order.
///
/// Only `files`, `dns` and `myhostname` exist here. The line decides what happens with the rest:
/// a name that only another module could answer must fail with a hint, not with a wrong answer.
///
/// ```
/// use tepal_names::config::{Module, Nsswitch};
///
/// let line = Nsswitch::parse("hosts: files mdns4_minimal [NOTFOUND=return] dns\n");
/// assert_eq!(line.modules().count(), 3);
/// assert_eq!(line.modules().next(), Some(&Module::Files));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nsswitch {
    steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) module: Module,
    // What to do after each status, in the order of `ModuleStatus`.
    actions: [ModuleAction; 4],
}

/// A module of the name service switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Module {
    /// The hosts file.
    Files,
    /// Name servers of resolv.conf.
    Dns,
    /// The machine's own name (nss-myhostname(8)).
    MyHostname,
    /// Any other: it lives in a shared library, which this crate does not load.
    Other(Box<str>),
}

/// How a module ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleStatus {
    /// It has the answer.
    Success,
    /// It works and does not know the name.
    NotFound,
    /// It cannot work here.
    Unavailable,
    /// It may know later.
    TryAgain,
}

/// What follows a module's status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleAction {
    /// The search ends with this status.
    Return,
    /// The next module is asked.
    Continue,
}

impl Nsswitch {
    /// Reads the file's text. Without a usable `hosts` line it is [`Nsswitch::default`].
    pub fn parse(text: &str) -> Nsswitch {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((database, modules)) = line.split_once(':') else { continue };
            if database.trim() != "hosts" {
                continue;
            }
            let steps = parse_steps(modules);
            if !steps.is_empty() {
                return Nsswitch { steps };
            }
        }
        Nsswitch::default()
    }

    /// The modules in their order.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.steps.iter().map(|step| &step.module)
    }

    pub(crate) fn step(&self, index: usize) -> Option<&Step> {
        self.steps.get(index)
    }
}

impl Step {
    pub(crate) fn action(&self, status: ModuleStatus) -> ModuleAction {
        self.actions[status as usize]
    }
}

/// What glibc does without a file: `hosts: files dns`.
impl Default for Nsswitch {
    fn default() -> Nsswitch {
        Nsswitch { steps: parse_steps("files dns") }
    }
}

fn parse_steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let (conditions, tail) = tail.split_once(']').unwrap_or((tail, ""));
            if let Some(step) = steps.last_mut() {
                for condition in conditions.split_ascii_whitespace() {
                    apply_condition(&mut step.actions, condition);
                }
            }
            rest = tail.trim_start();
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '[').unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        let module = match name {
            "files" => Module::Files,
            "dns" => Module::Dns,
            "myhostname" => Module::MyHostname,
            other => Module::Other(other.into()),
        };
        let mut actions = [ModuleAction::Continue; 4];
        actions[ModuleStatus::Success as usize] = ModuleAction::Return;
        steps.push(Step { module, actions });
        rest = tail.trim_start();
    }
    steps
}

/// One `[!]STATUS=ACTION`; `merge` means nothing for hosts and goes on.
fn apply_condition(actions: &mut [ModuleAction; 4], condition: &str) {
    let Some((status, action)) = condition.split_once('=') else { return };
    let (status, negated) = match status.strip_prefix('!') {
        Some(status) => (status, true),
        None => (status, false),
    };
    let named = [
        ("success", ModuleStatus::Success),
        ("notfound", ModuleStatus::NotFound),
        ("unavail", ModuleStatus::Unavailable),
        ("tryagain", ModuleStatus::TryAgain),
    ];
    let Some((_, status)) = named.iter().find(|(name, _)| status.eq_ignore_ascii_case(name)) else {
        return;
    };
    let action = if action.eq_ignore_ascii_case("return") {
        ModuleAction::Return
    } else {
        ModuleAction::Continue
    };
    for (_, each) in named {
        if (each == *status) != negated {
            actions[each as usize] = action;
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Module::Files => "files",
            Module::Dns => "dns",
            Module::MyHostname => "myhostname",
            Module::Other(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Nsswitch::parse(text).modules().map(Module::to_string).collect()
    }

    #[test]
    fn conditions_belong_to_the_module_before_them() {
        let line = Nsswitch::parse(
            "passwd: files\nhosts:\tmymachines resolve [!UNAVAIL=return] files[NOTFOUND=return success=continue] dns",
        );
        let step = |index: usize| line.step(index).unwrap();
        for status in [ModuleStatus::Success, ModuleStatus::NotFound, ModuleStatus::TryAgain] {
            assert_eq!(step(1).action(status), ModuleAction::Return);
        }
        assert_eq!(step(1).action(ModuleStatus::Unavailable), ModuleAction::Continue);
        assert_eq!(step(2).action(ModuleStatus::NotFound), ModuleAction::Return);
        assert_eq!(step(2).action(ModuleStatus::Success), ModuleAction::Continue);
        assert_eq!(step(3).module, Module::Dns);
        assert_eq!(step(3).action(ModuleStatus::NotFound), ModuleAction::Continue);
        assert_eq!(step(0).module, Module::Other("mymachines".into()));
    }

    #[test]
    fn without_a_usable_line_files_come_before_dns() {
        for text in ["", "hosts:", "hosts", "# hosts: dns", "hosts: # nothing", "\0[", "hosts:[]"] {
            assert_eq!(names(text), ["files", "dns"], "{text:?}");
        }
        assert_eq!(names("hosts: dns [ # cut"), ["dns"]);
        assert_eq!(names("hosts: [NOTFOUND=return] dns ]"), ["dns", "]"]);
    }
}
