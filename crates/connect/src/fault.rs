//! The one judge of errors: what went wrong with a command, and what that means.
//!
//! Redis tells its errors apart by the first word of their text; nothing else in the project looks at such texts.

use std::fmt;

use fred::error::{Error, ErrorKind};

use crate::server::Host;

/// The kinds of faults: a closed set, also used in metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// There is no connection, or it broke before the answer came. What was sent may have been carried out or not.
    Unreachable,
    /// No answer within the command's time. It may still be carried out.
    Timeout,
    /// The server is loading its data.
    Loading,
    /// The server is a replica, or has lost its own.
    ReadOnly,
    /// `maxmemory` is reached and the command needs memory.
    OutOfMemory,
    /// The user lacks a right; see [`Fault::missing_right`].
    Denied,
    /// Name or password are missing or wrong.
    Unauthenticated,
    /// The stream or its consumer group doesn't exist.
    NoGroup,
    /// There is such a consumer group already.
    GroupExists,
    /// There is no such key.
    NoKey,
    /// The key holds another type than the command needs.
    WrongType,
    /// The counter holds no number, or one that can't grow.
    NotInteger,
    /// The script isn't known to the server; [`crate::Client::eval`] handles it.
    NoScript,
    /// The server is busy with a script, can't persist, or has too many clients.
    Busy,
    /// The cluster is down, being resharded, or the keys of one command lie in several slots.
    Cluster,
    /// The server doesn't know the command or can't take it in this form: too old, or restricted by who runs it.
    Unsupported,
    /// The answer isn't what the command answers.
    Protocol,
    /// The settings can't work: a file that can't be read, say.
    Config,
    /// Anything else that the server answered.
    Other,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 19] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Loading,
        Self::ReadOnly,
        Self::OutOfMemory,
        Self::Denied,
        Self::Unauthenticated,
        Self::NoGroup,
        Self::GroupExists,
        Self::NoKey,
        Self::WrongType,
        Self::NotInteger,
        Self::NoScript,
        Self::Busy,
        Self::Cluster,
        Self::Unsupported,
        Self::Protocol,
        Self::Config,
        Self::Other,
    ];

    /// The name used in metric labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Loading => "loading",
            Self::ReadOnly => "read_only",
            Self::OutOfMemory => "out_of_memory",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::NoGroup => "no_group",
            Self::GroupExists => "group_exists",
            Self::NoKey => "no_key",
            Self::WrongType => "wrong_type",
            Self::NotInteger => "not_integer",
            Self::NoScript => "no_script",
            Self::Busy => "busy",
            Self::Cluster => "cluster",
            Self::Unsupported => "unsupported",
            Self::Protocol => "protocol",
            Self::Config => "config",
            Self::Other => "other",
        }
    }
}

/// First words of error texts, and what they mean.
const WORDS: [(&str, FaultKind); 22] = [
    ("LOADING", FaultKind::Loading),
    ("READONLY", FaultKind::ReadOnly),
    ("MASTERDOWN", FaultKind::ReadOnly),
    ("NOREPLICAS", FaultKind::ReadOnly),
    ("OOM", FaultKind::OutOfMemory),
    ("NOPERM", FaultKind::Denied),
    ("NOAUTH", FaultKind::Unauthenticated),
    ("WRONGPASS", FaultKind::Unauthenticated),
    ("NOGROUP", FaultKind::NoGroup),
    ("BUSYGROUP", FaultKind::GroupExists),
    ("UNBLOCKED", FaultKind::NoGroup),
    ("WRONGTYPE", FaultKind::WrongType),
    ("NOSCRIPT", FaultKind::NoScript),
    ("BUSY", FaultKind::Busy),
    ("MISCONF", FaultKind::Busy),
    ("UNKILLABLE", FaultKind::Busy),
    ("CLUSTERDOWN", FaultKind::Cluster),
    ("CROSSSLOT", FaultKind::Cluster),
    ("TRYAGAIN", FaultKind::Cluster),
    ("MOVED", FaultKind::Cluster),
    ("ASK", FaultKind::Cluster),
    ("NOPROTO", FaultKind::Unsupported),
];

/// Errors that begin with `ERR`, told apart by what follows, in lower case.
const PHRASES: [(&str, FaultKind); 12] = [
    // What a command, key or channel within a script may not be: up to Redis 7.0, and since.
    ("the user executing the script can't", FaultKind::Denied),
    ("acl failure in script", FaultKind::Denied),
    ("value is not an integer", FaultKind::NotInteger),
    ("increment or decrement would overflow", FaultKind::NotInteger),
    ("no such key", FaultKind::NoKey),
    ("requires the key to exist", FaultKind::NoKey),
    ("unknown command", FaultKind::Unsupported),
    ("unknown subcommand", FaultKind::Unsupported),
    ("max number of clients", FaultKind::Busy),
    ("invalid password", FaultKind::Unauthenticated),
    ("syntax error", FaultKind::Unsupported),
    ("wrong number of arguments", FaultKind::Unsupported),
];

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// The text of the server or of the system. It holds no key and no value.
    pub text: String,
}

/// Where a node of a cluster sends its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot is there.
    Moved { slot: u16, to: Host },
    /// This key of a slot on its way is there already, for who asks with ASKING.
    Ask { to: Host },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.text)
    }
}

impl Fault {
    /// A fault of this kind.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Judges an error text of the server.
    pub fn from_server(text: &str) -> Self {
        let text = without_arguments(inside_script(text));
        Self::new(judge(text), text)
    }

    /// Whether trying again can help. Only a key of the wrong type and a counter that holds no number stay as they are; even a missing
    /// right is the installation's fault, and granted some day.
    pub fn is_transient(&self) -> bool {
        !matches!(self.kind, FaultKind::WrongType | FaultKind::NotInteger)
    }

    /// Where to go instead, if a node of a cluster says so. It may leave the host's name empty: then it is the node's own.
    pub(crate) fn redirect(&self) -> Option<Redirect> {
        let mut words = self.text.split(' ');
        let (word, slot, address) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let (name, port) = address.rsplit_once(':')?;
        let to = Host { name: name.to_owned(), port: port.parse().ok()? };
        match word {
            "MOVED" => Some(Redirect::Moved { slot, to }),
            "ASK" => Some(Redirect::Ask { to }),
            _ => None,
        }
    }

    /// Whether a cluster has moved some of the keys of this command and not the others: one by one they can be had.
    pub(crate) fn is_torn(&self) -> bool {
        self.text.starts_with("TRYAGAIN")
    }

    /// Whether the server is, or has just become, a replica.
    pub(crate) fn is_of_a_replica(&self) -> bool {
        ["READONLY", "MASTERDOWN", "UNBLOCKED force"].iter().any(|begin| self.text.starts_with(begin))
    }

    /// Whether the user lacks a right.
    pub fn is_denied(&self) -> bool {
        self.kind == FaultKind::Denied
    }

    /// What the user lacks, as an ACL rule where the server says which: `+unlink`; or `keys`, `channels`, `a command of a script`.
    pub fn missing_right(&self) -> Option<String> {
        if !self.is_denied() {
            return None;
        }
        let quoted = self.text.split('\'').nth(1).filter(|_| self.text.contains("to run the"));
        Some(match quoted {
            Some(command) => format!("+{}", command.to_lowercase()),
            None if self.text.contains("channel") => "channels".to_owned(),
            None if self.text.contains("key") => "keys".to_owned(),
            None => "a command of a script".to_owned(),
        })
    }

    pub(crate) fn protocol(expected: &str, got: &impl fmt::Debug) -> Self {
        Self::new(FaultKind::Protocol, format!("expected {expected}, got {got:?}"))
    }
}

fn judge(text: &str) -> FaultKind {
    // Redis ends blocked reads by the same word when it becomes a replica and when the stream is deleted.
    if text.starts_with("UNBLOCKED force") {
        return FaultKind::ReadOnly;
    }
    let word = text.split(' ').next().unwrap_or_default();
    if let Some((_, kind)) = WORDS.iter().find(|(known, _)| *known == word) {
        return *kind;
    }
    let text = text.to_lowercase();
    let phrase = PHRASES.iter().find(|(phrase, _)| text.contains(phrase));
    phrase.map_or(FaultKind::Other, |(_, kind)| *kind)
}

/// Redis 6.2 wraps the error of a command in a script: `ERR Error running script (call to f_…): @user_script:1: -WRONGTYPE …`.
fn inside_script(text: &str) -> &str {
    let wrapped = text.starts_with("ERR Error running script");
    let inner = text.rsplit_once("@user_script: ").or_else(|| text.rsplit_once("@user_script:")).filter(|_| wrapped);
    let inner = inner.and_then(|(_, rest)| rest.split_once(": ")).map_or(text, |(_line, error)| error);
    inner.strip_prefix('-').unwrap_or(inner)
}

/// The server repeats the arguments of a command that it doesn't know, and those may be keys.
fn without_arguments(text: &str) -> &str {
    text.find(", with args beginning with").map_or(text, |end| &text[..end])
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::from(Error::new(ErrorKind::IO, format!("{error:?}")))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let known = Self::from_server(error.details());
        if known.kind != FaultKind::Other {
            return known;
        }
        let kind = match error.kind() {
            ErrorKind::Timeout => FaultKind::Timeout,
            ErrorKind::Auth => FaultKind::Unauthenticated,
            ErrorKind::Protocol | ErrorKind::Parse | ErrorKind::InvalidArgument => FaultKind::Protocol,
            ErrorKind::Config | ErrorKind::Url => FaultKind::Config,
            _ => FaultKind::Unreachable,
        };
        if let Some(text) = about_certificates(readable(&known.text)) {
            return Self::new(FaultKind::Config, text);
        }
        let cut_off = error.is_canceled() || known.text == "channel closed";
        Self::new(kind, if cut_off { "the connection ended before the answer came" } else { readable(&known.text) })
    }
}

/// Errors of the system come as Rust prints them for programmers: `Os { code: 111, kind: ConnectionRefused, message: "…" }`.
fn readable(text: &str) -> &str {
    let quoted = |begin: &str| text.split_once(begin).and_then(|(_, rest)| rest.split('"').next());
    let inner = || text.strip_prefix("Custom { kind: ").and_then(|rest| rest.split_once("error: ")).map(|(_, error)| error);
    quoted("message: \"")
        .or_else(|| quoted("error: \""))
        .or_else(|| inner().map(|error| error.trim_end_matches([' ', '}'])))
        .unwrap_or(text)
}

/// What rustls says of certificates, and what to do about it. Names are in its debugging form, as in `presented: ["DnsName(\"a.example\")"]`.
fn about_certificates(text: &str) -> Option<String> {
    let of = |kind: &str| text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('('));
    let begins = |rest: &str, words: &[&str]| words.iter().any(|word| rest.starts_with(word));
    if let Some(what) = of("InvalidCertificate") {
        let names = what.split_once("presented: [").and_then(|(_, names)| names.split(']').next()).unwrap_or_default();
        let names = names.replace("DnsName(", "").replace("IpAddress(", "").replace(['\\', '"', ')'], "");
        return Some(match what {
            _ if begins(what, &["UnknownIssuer", "BadSignature"]) => {
                "the authority that signed its certificate isn't trusted here: let `ca` name that authority's PEM file".to_owned()
            }
            _ if what.starts_with("NotValidForName") => format!(
                "its certificate isn't for the name or address by which it is reached, but for: {names}. Write such a name into `url`, or have \
                 the certificate made for this one"
            ),
            _ if begins(what, &["Expired", "NotValidYet"]) => {
                "its certificate has expired or isn't valid yet: renew it there, or set the clock here".to_owned()
            }
            _ => format!("its certificate is of no use: {}", what.trim_end_matches(')')),
        });
    }
    let alert = of("AlertReceived")?;
    let good_one = "let `cert` and `key` name one that its `tls-ca-cert-file` vouches for";
    match alert.trim_end_matches(')') {
        "CertificateRequired" => Some(format!("it wants to see a certificate: {good_one}")),
        "UnknownCA" | "BadCertificate" | "DecryptError" => Some(format!("it doesn't trust our certificate: {good_one}")),
        "CertificateExpired" => Some("our certificate has expired: renew what `cert` and `key` name".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_servers_are_told_apart() {
        for (text, kind) in [
            ("LOADING Redis is loading the dataset in memory", FaultKind::Loading),
            ("READONLY You can't write against a read only replica.", FaultKind::ReadOnly),
            ("OOM command not allowed when used memory > 'maxmemory'.", FaultKind::OutOfMemory),
            ("NOGROUP No such key 'unstale:events' or consumer group 'unstale' in XREADGROUP with GROUP option", FaultKind::NoGroup),
            ("UNBLOCKED the stream key no longer exists", FaultKind::NoGroup),
            ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", FaultKind::ReadOnly),
            ("BUSY Redis is busy running a script.", FaultKind::Busy),
            ("BUSYGROUP Consumer Group name already exists", FaultKind::GroupExists),
            ("ERR value is not an integer or out of range", FaultKind::NotInteger),
            (
                "ERR Error running script (call to f_ab): @user_script:1: @user_script: 1: -WRONGTYPE Operation against",
                FaultKind::WrongType,
            ),
            ("ERR Error running script (call to f_ab): @user_script:7: ERR value is not an integer or out of range", FaultKind::NotInteger),
            ("ERR something new", FaultKind::Other),
            ("", FaultKind::Other),
        ] {
            assert_eq!(Fault::from_server(text).kind, kind, "{text}");
        }
    }

    #[test]
    fn nodes_of_a_cluster_say_where_to_go() {
        let redirect = |text: &str| Fault::from_server(text).redirect();
        let host = |name: &str| Host { name: name.to_owned(), port: 6381 };
        assert_eq!(redirect("MOVED 3999 127.0.0.1:6381"), Some(Redirect::Moved { slot: 3999, to: host("127.0.0.1") }));
        assert_eq!(redirect("ASK 1 ::1:6381"), Some(Redirect::Ask { to: host("::1") }));
        assert_eq!(redirect("MOVED 3999 :6381"), Some(Redirect::Moved { slot: 3999, to: host("") }));
        for other in ["MOVED", "MOVED x 127.0.0.1:6381", "MOVED 1 127.0.0.1", "TRYAGAIN Multiple keys request", "OK"] {
            assert_eq!(redirect(other), None);
        }
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), FaultKind::ALL.len());
    }

    #[test]
    fn only_wrong_keys_are_permanent() {
        let permanent: Vec<_> = FaultKind::ALL.into_iter().filter(|kind| !Fault::new(*kind, "").is_transient()).collect();
        assert_eq!(permanent, [FaultKind::WrongType, FaultKind::NotInteger]);
    }

    #[test]
    fn the_missing_right_is_named() {
        let right = |text: &str| Fault::from_server(text).missing_right();
        assert_eq!(right("NOPERM User app has no permissions to run the 'UNLINK' command"), Some("+unlink".to_owned()));
        assert_eq!(
            right("NOPERM this user has no permissions to run the 'xinfo|groups' command or its subcommand"),
            Some("+xinfo|groups".to_owned())
        );
        assert_eq!(right("NOPERM this user has no permissions to access one of the keys used as arguments"), Some("keys".to_owned()));
        assert_eq!(right("NOPERM No permissions to access a channel"), Some("channels".to_owned()));
        let newer = "ERR ACL failure in script: User app has no permissions to run the 'unlink' command script: on @user_script:1.";
        assert_eq!(right(newer), Some("+unlink".to_owned()));
        let script = |what: &str| right(&format!("ERR The user executing the script can't {what} script: 740d, on @user_script:1."));
        assert_eq!(script("run this command or subcommand"), Some("a command of a script".to_owned()));
        assert_eq!(script("access at least one of the keys mentioned in the command arguments"), Some("keys".to_owned()));
        assert_eq!(script("publish to the channel mentioned in the command"), Some("channels".to_owned()));
        assert_eq!(right("WRONGTYPE Operation"), None);
    }

    #[test]
    fn errors_of_the_system_are_readable() {
        let fault = |details: &'static str| Fault::from(Error::new(ErrorKind::IO, details));
        let refused = fault(r#"Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#);
        assert_eq!(refused, Fault::new(FaultKind::Unreachable, "Connection refused"));
        let unknown = fault(r#"Custom { kind: Uncategorized, error: "failed to lookup address information" }"#);
        assert_eq!(unknown.text, "failed to lookup address information");
        let tls = fault("Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }");
        assert!(tls.kind == FaultKind::Config && tls.text.contains("let `ca` name"), "{tls}");
        for cut_off in [Error::new_canceled(), Error::new(ErrorKind::Unknown, "channel closed")] {
            assert_eq!(Fault::from(cut_off).text, "the connection ended before the answer came");
        }
    }

    #[test]
    fn arguments_that_the_server_repeats_are_cut_off() {
        let fault = Fault::from_server("ERR unknown command 'UNLINK', with args beginning with: 'vkey:secret' ");
        assert_eq!(fault, Fault::new(FaultKind::Unsupported, "ERR unknown command 'UNLINK'"));
    }
}
