//! A small synchronous RESP2 client for assertions. Not for production: no reconnects, panics where a test would.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What a server answered.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Nil,
    /// `+OK` and its like.
    Simple(String),
    /// A number.
    Int(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// An error inside an array, or as the reply of [`Resp::try_cmd`].
    Error(String),
}

impl Value {
    /// Text of a simple string, of bytes (lossily), or of a number.
    ///
    /// # Panics
    /// If it is anything else.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Simple(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(number) => number.to_string(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// A number, also one written as text.
    ///
    /// # Panics
    /// If it is anything else.
    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            Self::Bulk(_) | Self::Simple(_) => self.text().parse().unwrap_or_else(|_| panic!("expected a number, got {self:?}")),
            other => panic!("expected a number, got {other:?}"),
        }
    }

    /// The elements of a list; none for nil.
    ///
    /// # Panics
    /// If it is anything else.
    #[track_caller]
    pub fn array(&self) -> &[Value] {
        match self {
            Self::Array(items) => items,
            Self::Nil => &[],
            other => panic!("expected an array, got {other:?}"),
        }
    }

    /// The texts of a list.
    ///
    /// # Panics
    /// If it is no list of texts.
    #[track_caller]
    pub fn texts(&self) -> Vec<String> {
        self.array().iter().map(Value::text).collect()
    }

    /// Whether it is nil.
    pub fn is_nil(&self) -> bool {
        *self == Self::Nil
    }

    /// The value that follows a name in a flat list of names and values, as in `XINFO`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.array().chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| &pair[1])
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Error(text) => write!(f, "-{text}"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The server's error text.
    Server(String),
    /// The connection failed.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(text) => f.write_str(text),
            Self::Io(error) => write!(f, "connection: {error}"),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// As the last state seen, for those who wait for another.
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

trait Stream: Read + Write + Send {
    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout).and_then(|()| self.set_write_timeout(timeout))
    }
}

impl Stream for UnixStream {
    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout).and_then(|()| self.set_write_timeout(timeout))
    }
}

/// One connection. Answers are awaited for at most 10 s (see [`Resp::set_timeout`]).
pub struct Resp {
    stream: BufReader<Box<dyn Stream>>,
}

impl Resp {
    /// Connects over TCP.
    pub fn tcp(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Self::over(Box::new(stream))
    }

    /// Connects over a unix socket.
    pub fn unix(path: &Path) -> io::Result<Self> {
        Self::over(Box::new(UnixStream::connect(path)?))
    }

    fn over(stream: Box<dyn Stream>) -> io::Result<Self> {
        stream.set_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// How long to wait for an answer; `None` is for ever.
    ///
    /// # Panics
    /// If the socket refuses it.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.stream.get_ref().set_timeout(timeout).expect("a socket takes any timeout above zero");
    }

    /// Sends a command and returns its answer.
    ///
    /// # Panics
    /// On a failed connection, and when the server answers with an error.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.try_cmd(args).unwrap_or_else(|error| panic!("{}: {error}", shown(args)))
    }

    /// Sends a command and returns its answer, or the error.
    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, Error> {
        self.send(args)?;
        match self.read()? {
            Value::Error(text) => Err(Error::Server(text)),
            value => Ok(value),
        }
    }

    /// Sends commands together, so few that their answers find room in the sockets' buffers, and returns these.
    ///
    /// # Panics
    /// On a failed connection, and when the server answers one of them with an error.
    #[track_caller]
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Value> {
        let mut out = Vec::new();
        for command in commands {
            encode(command, &mut out);
        }
        let sent = self.stream.get_mut().write_all(&out);
        sent.unwrap_or_else(|error| panic!("{} commands: {error}", commands.len()));
        let answer = |command: &Vec<A>| match self.read() {
            Ok(Value::Error(text)) => panic!("{}: {text}", shown(command)),
            Ok(value) => value,
            Err(error) => panic!("{}: {error}", shown(command)),
        };
        commands.iter().map(answer).collect()
    }

    /// Sends a command without waiting for its answer.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let mut out = Vec::new();
        encode(args, &mut out);
        self.stream.get_mut().write_all(&out)
    }

    /// Reads the next answer, or the next message of a subscription or of MONITOR.
    pub fn read(&mut self) -> io::Result<Value> {
        read_value(&mut self.stream)
    }

    /// Makes this connection a MONITOR: from now on [`Resp::monitored`] gives the commands that the server runs.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn monitor(&mut self) {
        self.cmd(&["MONITOR"]);
    }

    /// The lines of MONITOR that have come so far, up to and without the one that contains `until`; that one proves that all before it were
    /// seen, so send a marker (`ECHO`) on another connection first.
    ///
    /// # Panics
    /// If the marker doesn't come within the timeout.
    pub fn monitored(&mut self, until: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.read() {
                Ok(line) if line.text().contains(until) => return lines,
                Ok(line) => lines.push(line.text()),
                Err(error) => panic!("MONITOR never showed {until:?} ({error}); it showed {lines:#?}"),
            }
        }
    }
}

/// Reads one value.
fn read_value(from: &mut impl BufRead) -> io::Result<Value> {
    let line = read_line(from)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed(&line))?;
    let number = || rest.parse::<i64>().map_err(|_| malformed(&line));
    Ok(match kind {
        "+" => Value::Simple(rest.to_owned()),
        "-" => Value::Error(rest.to_owned()),
        ":" => Value::Int(number()?),
        "$" => usize::try_from(number()?).map_or(Ok(Value::Nil), |length| read_bulk(from, length))?,
        "*" => match usize::try_from(number()?) {
            Ok(length) => Value::Array((0..length).map(|_| read_value(from)).collect::<io::Result<_>>()?),
            Err(_) => Value::Nil,
        },
        _ => return Err(malformed(&line)),
    })
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_bulk(from: &mut impl BufRead, length: usize) -> io::Result<Value> {
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(Value::Bulk(bytes))
}

/// The value that these bytes begin with, and how long it is; `None` if it isn't whole yet.
pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<(Value, usize)>> {
    let mut rest = bytes;
    match read_value(&mut rest) {
        Ok(value) => Ok(Some((value, bytes.len() - rest.len()))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A command as it is sent.
pub(crate) fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args.iter().map(AsRef::as_ref) {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {line:?}"))
}

fn shown<A: AsRef<[u8]>>(args: &[A]) -> String {
    args.iter().map(|arg| arg.as_ref().escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}
