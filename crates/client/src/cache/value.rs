//! How values become bytes and come back.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How values with serde are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Readable by everybody, people included.
    #[default]
    Json,
    /// Smaller and faster, with the names of fields kept.
    MessagePack,
}

/// A value that can be cached: whatever serde can write and read, and [`Raw`] bytes.
pub trait Cached: Sized + Send + Sync + 'static {
    /// As bytes.
    ///
    /// # Errors
    /// What the serializer says.
    fn encode(&self, encoding: Encoding) -> Result<Bytes, String>;

    /// From bytes.
    ///
    /// # Errors
    /// What the deserializer says.
    fn decode(bytes: &Bytes, encoding: Encoding) -> Result<Self, String>;
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Cached for T {
    fn encode(&self, encoding: Encoding) -> Result<Bytes, String> {
        match encoding {
            Encoding::Json => serde_json::to_vec(self).map(Bytes::from).map_err(|error| error.to_string()),
            Encoding::MessagePack => rmp_serde::to_vec_named(self).map(Bytes::from).map_err(|error| error.to_string()),
        }
    }

    fn decode(bytes: &Bytes, encoding: Encoding) -> Result<Self, String> {
        match encoding {
            Encoding::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
            Encoding::MessagePack => rmp_serde::from_slice(bytes).map_err(|error| error.to_string()),
        }
    }
}

/// Bytes that stand in Redis as they are, whatever the encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Raw(pub Bytes);

impl Cached for Raw {
    fn encode(&self, _: Encoding) -> Result<Bytes, String> {
        Ok(self.0.clone())
    }

    fn decode(bytes: &Bytes, _: Encoding) -> Result<Self, String> {
        Ok(Self(bytes.clone()))
    }
}
