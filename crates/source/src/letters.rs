//! Dead letters: what can't be handled, kept with its reason.

use bytes::Bytes;
use unstale_connect::{Client, Fault};
use unstale_events::{EntryId, Fields, Reason};

use crate::group::{Body, KEPT};
use crate::limit::{EntryLimit, Size};

/// Where dead letters go and how many are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LettersConfig {
    /// The stream's key.
    pub stream: String,
    /// `dead_letters.retain`: how many entries.
    pub retain: u64,
    /// `dead_letters.retain_bytes`: how many bytes of Redis' memory.
    pub retain_bytes: u64,
    /// `limits.entry`: of a larger entry only the beginnings of the first fields are kept.
    pub entry: EntryLimit,
    /// The name of this instance.
    pub origin: String,
}

/// One entry to be buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The stream that it came from.
    pub stream: String,
    /// The entry.
    pub id: EntryId,
    /// Its fields as they were read.
    pub body: Body,
    /// Why: at least one reason.
    pub reasons: Vec<Reason>,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// Writes dead letters.
#[derive(Debug, Clone)]
pub struct Letters {
    client: Client,
    config: LettersConfig,
}

impl Letters {
    /// A writer to the dead letters of this configuration.
    pub fn new(client: Client, config: LettersConfig) -> Self {
        Self { client, config }
    }

    /// Adds a letter. Only after that may the entry be acknowledged.
    pub async fn bury(&self, letter: &Letter) -> Result<EntryId, Fault> {
        let now = self.client.time().await?;
        let fields = self.fields(letter, now.as_millis());
        let id = self.client.xadd_capped(&self.config.stream, self.config.retain, &fields).await?;
        // The letter is there. That the stream can't be measured now must not have it written again.
        if let Err(fault) = self.shrink().await {
            tracing::warn!(%fault, "could not hold the dead letters to dead_letters.retain_bytes; grant +memory|usage and +xtrim");
        }
        Ok(id)
    }

    fn fields(&self, letter: &Letter, at_ms: u128) -> Fields {
        let Body { mut fields, is_cut } = letter.body.clone();
        let is_cut = is_cut || self.config.entry.is_exceeded(Size::of(&fields));
        if is_cut {
            fields.truncate(KEPT.0);
            for (name, value) in &mut fields {
                name.truncate(KEPT.1);
                value.truncate(KEPT.1);
            }
        }
        let reasons: Vec<String> = letter.reasons.iter().map(ToString::to_string).collect();
        let mut add = |name: &'static str, value: String| fields.push((Bytes::from_static(name.as_bytes()), value.into()));
        add("dead_reason", reasons.join("; "));
        add("dead_entry", letter.id.to_string());
        add("dead_stream", letter.stream.clone());
        add("dead_deliveries", letter.deliveries.to_string());
        add("dead_at", at_ms.to_string());
        add("dead_by", self.config.origin.clone());
        if is_cut {
            add("dead_truncated", "1".to_owned());
        }
        fields
    }

    /// Holds the stream to its bytes: what Redis says it takes, divided among its entries.
    async fn shrink(&self) -> Result<(), Fault> {
        let words = ["MEMORY", "USAGE", self.config.stream.as_str(), "SAMPLES", "0"];
        let bytes = self.client.raw(words.map(|word| Bytes::copy_from_slice(word.as_bytes())).to_vec()).await?.count()?;
        if bytes <= self.config.retain_bytes {
            return Ok(());
        }
        let length = self.client.xlen(&self.config.stream).await?;
        let fits = u128::from(length) * u128::from(self.config.retain_bytes) / u128::from(bytes);
        let words = ["XTRIM".to_owned(), self.config.stream.clone(), "MAXLEN".to_owned(), "=".to_owned(), fits.max(1).to_string()];
        self.client.raw(words.map(Bytes::from).to_vec()).await.map(drop)
    }
}
