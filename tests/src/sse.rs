//! A receiver of `GET /v1/notices`, as strict as the wire format: what doesn't have its form fails the test.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::{PATIENCE, Sidecar};

/// One event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `hello`, `drop`, `flush` or `beat`.
    pub name: String,
    /// `<log id>/<seq>`.
    pub id: String,
    /// Its data.
    pub data: Json,
}

impl Event {
    /// The number in its id.
    ///
    /// # Panics
    /// If it has none.
    pub fn seq(&self) -> u64 {
        let seq = self.id.split_once('/').and_then(|(_, seq)| seq.parse().ok());
        seq.unwrap_or_else(|| panic!("{:?} is no position", self.id))
    }

    /// Whether a hello says that it goes on where the receiver was.
    pub fn resumed(&self) -> bool {
        self.data["resumed"] == true
    }

    /// The keys that it drops.
    pub fn keys(&self) -> Vec<String> {
        let drops = self.data["drop"].as_array().into_iter().flatten();
        let keys = drops.flat_map(|drop| drop["keys"].as_array().into_iter().flatten());
        keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
    }
}

/// A stream that was answered.
#[derive(Debug)]
pub struct Stream {
    reader: BufReader<TcpStream>,
    /// The rest of the chunk that is being read; HTTP sends the stream in chunks.
    chunk: usize,
    began: bool,
}

impl Stream {
    /// Connects, with the id of the last event if there was one, and reads up to the hello.
    ///
    /// # Errors
    /// If there is nobody, or the answer isn't a stream.
    ///
    /// # Panics
    /// If the URL has no path, or the first event is no hello.
    pub fn open(url: &str, last: Option<&str>) -> io::Result<(Event, Self)> {
        let (address, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a URL with a path");
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{last}\r\n").as_bytes())?;
        let mut stream = Self { reader: BufReader::new(stream), chunk: 0, began: false };
        let head = stream.head()?;
        if !head.starts_with("HTTP/1.1 200") || !head.to_lowercase().contains("content-type: text/event-stream") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, head));
        }
        let hello = stream.next()?;
        assert_eq!(hello.name, "hello", "{hello:?}");
        Ok((hello, stream))
    }

    /// The next event.
    ///
    /// # Errors
    /// At the end of the stream, or after [`PATIENCE`].
    ///
    /// # Panics
    /// If it isn't one of this protocol.
    #[expect(clippy::should_implement_trait, reason = "an iterator's errors would be lost")]
    pub fn next(&mut self) -> io::Result<Event> {
        let mut field = |name: &str| {
            let line = self.line()?;
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
            Ok::<_, io::Error>(value.unwrap_or_else(|| panic!("expected {name}, got {line:?}")).to_owned())
        };
        let (name, id, data) = (field("event")?, field("id")?, field("data")?);
        assert_eq!(self.line()?, "", "an event ends with an empty line");
        assert!(["hello", "drop", "flush", "beat"].contains(&name.as_str()), "{name}");
        Ok(Event { name, id, data: serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}")) })
    }

    /// The next that is no heartbeat.
    ///
    /// # Errors
    /// As [`Stream::next`], but that heartbeats don't count against the time.
    pub fn next_notice(&mut self) -> io::Result<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = self.next()?;
            if event.name != "beat" {
                return Ok(event);
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// How long [`Stream::next`] waits.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn set_patience(&self, time: Duration) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(Some(time))
    }

    /// Another hold of the connection, to end it from elsewhere.
    ///
    /// # Panics
    /// If the socket is gone.
    pub fn handle(&self) -> Handle {
        Handle(self.reader.get_ref().try_clone().expect("a socket can be held twice"))
    }

    fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, head));
            }
        }
        Ok(head)
    }

    /// A line of the stream, put together from its chunks.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            if self.chunk == 0 {
                self.next_chunk()?;
            }
            let ready = self.reader.fill_buf()?;
            let ready = &ready[..ready.len().min(self.chunk)];
            if ready.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = ready.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(ready.len(), |end| end + 1);
            line.extend_from_slice(&ready[..end.unwrap_or(taken)]);
            self.reader.consume(taken);
            self.chunk -= taken;
            if end.is_some() {
                return String::from_utf8(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut size = String::new();
        if self.began {
            self.reader.read_line(&mut size)?; // the end of the chunk before
            size.clear();
        }
        self.began = true;
        self.reader.read_line(&mut size)?;
        self.chunk = usize::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        if self.chunk == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// A hold of a stream's connection.
#[derive(Debug)]
pub struct Handle(TcpStream);

impl Handle {
    /// Ends the connection.
    pub fn cut(&self) {
        // It may have ended by itself.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Sidecar {
    /// Follows its notices, with query and the id of the last event.
    ///
    /// # Panics
    /// If there is no stream in time.
    pub fn notices(&self, query: &str, last: Option<&str>) -> (Event, Stream) {
        let url = format!("{}/v1/notices{query}", self.http());
        unstale_testkit::wait_until_sync("a stream of notices", PATIENCE, || {
            Stream::open(&url, last).map_err(|error| format!("{error}\n{}", self.log()))
        })
    }
}
